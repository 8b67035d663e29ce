"""A log of what happened, one line an event: the actor that FastAPI's documentation begins with."""

import dramatiq

from postlude.settings import settings


@dramatiq.actor
def write_log(message: str) -> None:
    """Append ``message`` as one line to ``{data_dir}/log.txt``.

    Runs again after a crash, and then the line may be there twice; whoever reads it must not mind.
    Many workers may append at once: each line goes out in one write, so lines never mix.
    """
    path = settings().data_dir / "log.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    line = " ".join(message.splitlines()) + "\n"
    with path.open("ab", buffering=0) as log:
        log.write(line.encode())
