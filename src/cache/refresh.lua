-- Puts a row of Azure Table Storage into a Redis cache, and never an older version over a newer one.
--
-- tablerelay's daemons refresh the caches with this script, and a cache-aside reader fills through it too: a plain HSET
-- could put back what was changed or deleted while the reader was on its way. The reader asks HGET key e; where there
-- is no e it reads the row from the table, and sends the script with mode fill. Copy the file as it is; send it with
-- EVAL, or SCRIPT LOAD and EVALSHA. It touches one key, so it works in a cluster. Redis 6 or later.
--
-- KEYS[1]  The cache key: table, partition key and row key joined by ":", as in orders:it%27s:42 (unless tablerelay is
--          configured with another template). Each of the three is percent-encoded, all bytes of its UTF-8 text but
--          A-Z a-z 0-9 - . _ ~, and the table is in lower case.
-- ARGV[1]  What to do:
--            fill              put the row in: what a reader does after a miss
--            write-through     the same, as said by a daemon
--            refresh-existing  put the row in if an entry of it is there already
--            invalidate        take the entry out, for the next reader to fill
-- ARGV[2]  The row's RelayVersion. A row without one should not be cached by a reader.
-- ARGV[3]  Time to live of the entry in milliseconds; 0 for none.
-- ARGV[4]  The row as a JSON object: PartitionKey, RowKey, RelayVersion, the properties and their @odata.type, without
--          ETag and Timestamp, which differ by region. Empty for a row that is known to be deleted.
--
-- The key then holds a hash: field v is the version, field e the row. A hash without e is a mark: the row was deleted,
-- changed or taken out at v. It keeps rows older than v out for five minutes; to a reader it is a miss.
--
-- Returns
--   stored       the cache holds this row now
--   marked       the row is deleted: a mark is there now
--   invalidated  an older entry was taken out: a mark is there now
--   absent       no entry was there, and the mode puts none there: a mark is there now
--   current      the cache holds this very version already; fill and write-through give it its full time to live again
--   newer        the cache holds a newer version, as an entry or as a mark
--   full         Redis is at its maxmemory; the cache held nothing of this row, and still does not
--   foreign      the key holds something else than such a hash, and was left alone

local MARK_MS = 300000
local LONGEST_MS = 2 ^ 53

-- "<" on strings would follow the server's locale; versions are ordered by their bytes.
local function older(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then
      return x < y
    end
  end
  return #a < #b
end

-- %d and %x would follow the locale too.
local VERSION = '^dddd%-dd%-ddTdd:dd:dd%.dddddddZ@[a-z0-9-]+%.xxxxxxxx$'
VERSION = string.gsub(string.gsub(VERSION, 'd', '[0-9]'), 'x', '[0-9a-f]')

local function is_version(text)
  return string.find(text, VERSION) ~= nil
end

local key, mode, version, ttl, entry = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local fills = mode == 'fill' or mode == 'write-through'

if #KEYS ~= 1 or #ARGV ~= 4 then
  return redis.error_reply('ERR refresh.lua takes one key and four arguments: mode, version, ttl, entry')
elseif not fills and mode ~= 'refresh-existing' and mode ~= 'invalidate' then
  return redis.error_reply('ERR the mode should be fill, write-through, refresh-existing or invalidate')
elseif not is_version(version) then
  return redis.error_reply('ERR the version should be a RelayVersion, as in '
    .. '2026-11-22T12:18:00.1234567Z@westeurope.7f3a9c1b')
elseif not ttl or ttl < 0 or ttl > LONGEST_MS or ttl ~= math.floor(ttl) then
  return redis.error_reply('ERR the ttl should be a whole number of milliseconds, 0 for none')
end

local kind = redis.call('TYPE', key).ok
local held, has_entry, left = false, false, 0
if kind == 'hash' then
  held = redis.call('HGET', key, 'v')
  has_entry = redis.call('HEXISTS', key, 'e') == 1
  left = redis.call('PTTL', key)
end
if kind ~= 'none' and not (held and is_version(held)) then
  return 'foreign'
end

-- What is replaced goes first: when memory is full, Redis refuses the first write of a script, but never a DEL, and what
-- is stale must not stay. A new key is that first write, so maxmemory is kept.
local function put(outcome, ms, ...)
  if held then
    redis.call('DEL', key)
  end
  local reply = redis.pcall('HSET', key, ...)
  if type(reply) == 'table' and reply.err then
    return string.find(reply.err, 'OOM', 1, true) and 'full' or reply
  end
  if ms > 0 then
    redis.call('PEXPIRE', key, ms)
  end
  return outcome
end

if held and older(version, held) then
  return 'newer'
end

if version == held and not (fills and entry ~= '' and not has_entry) then
  if fills and entry ~= '' and left >= 0 then
    if ttl == 0 then
      redis.call('PERSIST', key)
    elseif ttl > left then
      redis.call('PEXPIRE', key, ttl)
    end
  end
  return 'current'
end

if entry == '' then
  return put('marked', MARK_MS, 'v', version)
elseif fills then
  return put('stored', ttl, 'v', version, 'e', entry)
elseif mode == 'invalidate' or not has_entry then
  return put(has_entry and 'invalidated' or 'absent', MARK_MS, 'v', version)
end

-- refresh-existing. The entry leaves when its reader wanted, or rows that are often written and never read would stay
-- for ever; but not sooner than a mark would, so that a slow reader cannot put an older row in its place.
local least = (ttl == 0) and MARK_MS or math.min(ttl, MARK_MS)
return put('stored', (left < 0) and 0 or math.max(left, least), 'v', version, 'e', entry)
