-- What was asked: written once. `sequence` is the order of insertion; ids and hashes are their 32 bytes, amounts are wei
-- as big-endian bytes, times are milliseconds since the Unix epoch.
CREATE TABLE tasks (
    sequence INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    model TEXT NOT NULL,
    input TEXT NOT NULL,
    input_hash BLOB NOT NULL,
    price BLOB NOT NULL,
    submitted_at INTEGER NOT NULL,
    deadline INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    requester TEXT,
    idempotency_key TEXT,
    digest BLOB NOT NULL,
    webhook TEXT
) STRICT;
CREATE INDEX tasks_by_id ON tasks (id);
CREATE INDEX tasks_by_model ON tasks (model);
CREATE INDEX tasks_by_requester ON tasks (requester) WHERE requester IS NOT NULL;
CREATE INDEX tasks_by_time ON tasks (submitted_at, requester, price) WHERE requester IS NOT NULL;
CREATE INDEX tasks_by_key ON tasks (idempotency_key, requester) WHERE idempotency_key IS NOT NULL;

-- Tasks without an outcome: all that a start reads. `progress` is JSON: what was received, what failed.
CREATE TABLE open (
    sequence INTEGER PRIMARY KEY,
    version INTEGER NOT NULL,
    progress TEXT
) STRICT;

-- Tasks with one. `position` is the order of their ends; `state` is 1 completed, 2 failed, 3 cancelled.
CREATE TABLE ended (
    sequence INTEGER PRIMARY KEY,
    position INTEGER NOT NULL,
    version INTEGER NOT NULL,
    state INTEGER NOT NULL,
    ended_at INTEGER,
    progress TEXT NOT NULL
) STRICT;
CREATE INDEX ended_by_position ON ended (position);
CREATE INDEX ended_without_output ON ended (state) WHERE state <> 1;

-- Finished tasks whose webhook has not been told.
CREATE TABLE untold (sequence INTEGER PRIMARY KEY) STRICT;

-- Of open tasks.
CREATE TABLE leases (
    sequence INTEGER NOT NULL,
    lease BLOB NOT NULL,
    miner INTEGER NOT NULL,
    audit INTEGER NOT NULL,
    model_hash BLOB NOT NULL,
    kernels TEXT NOT NULL,
    granted_at INTEGER NOT NULL,
    PRIMARY KEY (sequence, lease)
) STRICT, WITHOUT ROWID;

-- `place` is the task's sequence times 65536 and a number: a task's outputs lie together without an index more. Either
-- `bytes` are here or `object` names them in the object store.
CREATE TABLE outputs (
    place INTEGER PRIMARY KEY,
    lease BLOB NOT NULL,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    bytes BLOB,
    object TEXT
) STRICT;
CREATE INDEX outputs_by_object ON outputs (object) WHERE object IS NOT NULL;

CREATE TABLE payments (
    sequence INTEGER NOT NULL,
    lease BLOB NOT NULL,
    miner INTEGER NOT NULL,
    amount BLOB NOT NULL,
    PRIMARY KEY (sequence, lease)
) STRICT, WITHOUT ROWID;

-- `voucher` is JSON, signed: what a miner redeems.
CREATE TABLE accounts (
    miner INTEGER PRIMARY KEY,
    version INTEGER NOT NULL,
    voucher TEXT NOT NULL
) STRICT;

-- Of tasks that were forgotten, by the hour they were submitted in: what quotas still count.
CREATE TABLE forgotten (
    requester TEXT NOT NULL,
    hour INTEGER NOT NULL,
    tasks INTEGER NOT NULL,
    spent BLOB NOT NULL,
    PRIMARY KEY (requester, hour)
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    miner INTEGER PRIMARY KEY,
    token_hash BLOB NOT NULL,
    operator BLOB NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

-- Session requests that were used, until they expire: each opens one session.
CREATE TABLE nonces (
    miner INTEGER NOT NULL,
    nonce BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (miner, nonce)
) STRICT, WITHOUT ROWID;
CREATE INDEX nonces_by_time ON nonces (expires_at);

-- `record` is JSON; the outputs it is about are beside it.
CREATE TABLE evidence (
    number INTEGER PRIMARY KEY,
    task BLOB NOT NULL UNIQUE,
    record TEXT NOT NULL
) STRICT;
CREATE TABLE exhibits (
    evidence INTEGER NOT NULL REFERENCES evidence,
    position INTEGER NOT NULL,
    output BLOB NOT NULL,
    UNIQUE (evidence, position)
) STRICT;

CREATE TABLE blobs (
    hash BLOB PRIMARY KEY,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    kept_at INTEGER NOT NULL,
    bytes BLOB,
    object TEXT
) STRICT;
CREATE INDEX blobs_by_time ON blobs (kept_at);
CREATE INDEX blobs_by_object ON blobs (object) WHERE object IS NOT NULL;

-- One row. `finished`, `output_bytes` and `blob_bytes` count what is kept; tasks that ended up to position `emptied` lost
-- their outputs to the size budget; `runs` is how often the file was opened, which names objects; `mark` is what the
-- object store must carry to be ours.
CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    finished INTEGER NOT NULL,
    output_bytes INTEGER NOT NULL,
    blob_bytes INTEGER NOT NULL,
    emptied INTEGER NOT NULL,
    runs INTEGER NOT NULL,
    mark TEXT NOT NULL
) STRICT;
INSERT INTO state VALUES (1, 0, 0, 0, 0, 0, lower(hex(randomblob(16))));
