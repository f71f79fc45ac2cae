"""Every statement Parley runs: built with SQLAlchemy, rendered by `make gen`, sent from `sql`.

Three rules hold for all of them, learned under load from many connections (decision 0004):

- A statement that touches a conversation and a turn locks the conversation first, and tests
  conditions on the row it locked. A NOT EXISTS beside an UPDATE is re-checked with an old snapshot.
- Every part filters on the one owner, so that a sharded database sends it to one shard.
- Time is `now()`, the database's. A lease counts from its statement's start.
"""
