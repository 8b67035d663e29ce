"""``python -m postlude.cli``: the same as ``postlude``, where no script is installed."""

from postlude.cli.app import main

if __name__ == "__main__":
    main()
