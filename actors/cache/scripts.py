"""The operations of the cache in Redis, in Lua: each runs as a whole, nobody else in between.

``KEYS[1]`` is the entry's hash; its fields are named as the columns of the ledger's table, and mean
the same. Instants are microseconds: Lua compares them as doubles, which are exact up to the year
2255; it would write them as 1.7e+15, so what is stored is always the text that came.
Every script writes what needs memory first: Redis refuses that before anything has been changed.
"""

from __future__ import annotations

_FIELDS = """
local key = KEYS[1]
local function field(name) return redis.call('HGET', key, name) end
local function at(name) return tonumber(field(name)) end
"""

TAKE = (
    _FIELDS
    + """
local task, now, wanted, till, absurd = unpack(ARGV)
local present, limit, wish = tonumber(now), tonumber(absurd), tonumber(wanted)
local holder, held, since, as_of = field('holder'), at('held_until'), at('loading_since'), at('as_of')
local free = not held or held < present or held > limit or holder == task
local old = not as_of or as_of < (wish or present) or as_of > limit
if free and old then
    redis.call('HSET', key, 'holder', task, 'loading_since', now, 'held_until', till)
    if holder ~= task or since ~= present then redis.call('HDEL', key, 'wanted') end
    return 'load'
end
if not held or held < present then return 'fresh' end
local other = at('wanted')
if wish and since < wish and (not other or other < wish) then
    redis.call('HSET', key, 'wanted', wanted)
end
return 'under way'
"""
)
"""task, now, wanted or nothing, end of the lease, what no instant can be beyond -> a Verdict."""

KEEP = (
    _FIELDS
    + """
local task, since, value = unpack(ARGV)
local holder = field('holder')
if holder == task and field('loading_since') == since then
    redis.call('HSET', key, 'value', value, 'as_of', since)
    redis.call('HDEL', key, 'error', 'failed_at', 'holder', 'loading_since', 'held_until')
    return field('wanted')
end
return not holder and field('as_of') == since and field('wanted')
"""
)
"""task, since, value -> what is wanted; the same again when it is called again."""

FAIL = (
    _FIELDS
    + """
local task, since, now, words = unpack(ARGV)
if field('holder') == task and field('loading_since') == since then
    redis.call('HSET', key, 'error', words, 'failed_at', now)
    redis.call('HDEL', key, 'holder', 'loading_since', 'held_until')
end
"""
)
"""task, since, now, error."""

ASK = (
    _FIELDS
    + """
local now, before = unpack(ARGV)
local asked = at('asked_at')
if asked and asked >= tonumber(before) and asked <= tonumber(now) then return 0 end
redis.call('HSET', key, 'asked_at', now)
return 1
"""
)
"""now, the end of the pause before it -> 1 for whoever is to ask."""
