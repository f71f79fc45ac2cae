"""Whether a statement can be sent to the one shard that an owner's rows are on, as Citus has it.

The rules are those of Citus' planner for statements of a single shard: `Rule` has them. A statement
is read by sqlglot, and the catalogue of a real Postgres says which functions are volatile.

What it cannot see is the volatility of operators and casts, which depends on types.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

import psycopg
from sqlglot import exp, parse_one

from parley_server.storage.schema.distribution import DISTRIBUTED

POSTGRES = "postgres"
OWNER = "owner_id"
MUTABLE, VOLATILE = frozenset("sv"), frozenset("v")
_CALL = re.compile(r"(\w+)\(")
_NAMES = {"current_timestamp": "now", "current_date": "now", "least": "", "greatest": ""}
"""What has no row of its own in pg_proc; greatest() and least() are no functions."""

Volatility = Mapping[str, str]
"""By function, the most volatile of those that have the name: i, s, v."""


class Rule(StrEnum):
    """What a statement breaks."""

    OWNER = "reads a table without `owner_id = :owner`"
    FROM = "selects from no distributed table, so that it is of no shard"
    KEY = "inserts a row whose owner_id is not :owner"
    MOVED = "changes owner_id"
    VOLATILE = "has a volatile function in what it updates, or in a WHERE of a modification"
    STABLE = "gives a column to a stable function in a modification, outside of a subquery"
    CASE = "has a function that is not immutable in a CASE or COALESCE of a modification"
    RETURNING = "returns from a modification what is not immutable"
    CONFLICT = "has a function that is not immutable in ON CONFLICT DO UPDATE"
    RECURSIVE = "is recursive"


@dataclass(frozen=True)
class Breach:
    rule: Rule
    where: str
    """The table, or the part's text."""


def volatility_of(url: str) -> Volatility:
    """Return the volatility of every function that a Postgres has."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT proname, max(provolatile::text) FROM pg_proc GROUP BY proname"
        ).fetchall()
    return dict(found)


def breaches(sql: str, functions: Volatility) -> list[Breach]:
    """Return what a statement breaks, in the order of its parts; empty: it goes to one shard."""
    tree = parse_one(sql, dialect=POSTGRES)
    found = [*_unfiltered(tree), *_of_no_shard(tree)]
    if any(with_.recursive for with_ in tree.find_all(exp.With)):
        found.append(Breach(Rule.RECURSIVE, ""))
    for part in tree.find_all(exp.Insert, exp.Update, exp.Delete):
        found += _Modification(part, functions).breaches()
    return found


def _unfiltered(tree: exp.Expr) -> Iterator[Breach]:
    """Find tables that are read for every owner."""
    for part in tree.find_all(exp.Select, exp.Update, exp.Delete):
        tables = [table for table in _sources(part) if isinstance(table, exp.Table)]
        owned = {table.alias_or_name for table in tables if table.name in DISTRIBUTED}
        for alias in sorted(owned - _of_the_owner(part)):
            yield Breach(Rule.OWNER, alias)


def _sources(part: exp.Expr) -> list[exp.Expr]:
    """Return what a part reads itself: tables, CTEs' names, subqueries, functions."""
    from_ = part.args.get("from_")
    found = [from_.this] if from_ else []
    found += [join.this for join in part.args.get("joins") or ()]
    for source in list(found):
        found += [join.this for join in source.args.get("joins") or ()]
    if isinstance(part, exp.Update | exp.Delete):
        found.append(part.this)
        found += part.args.get("using") or ()
    return found


def _of_the_owner(part: exp.Expr) -> set[str]:
    """Return the aliases whose rows are the owner's: by the parameter, or by another alias."""
    joins = list(part.args.get("joins") or ())
    for source in _sources(part):
        joins += source.args.get("joins") or ()
    conditions = [join.args["on"] for join in joins if join.args.get("on")]
    if where := part.args.get("where"):
        conditions.append(where.this)
    theirs: set[str] = set()
    pairs: list[tuple[str, str]] = []
    for condition in conditions:
        for one in condition.flatten() if isinstance(condition, exp.And) else (condition,):
            sides = [one.left, one.right] if isinstance(one, exp.EQ) else []
            aliases = [side.text("table") for side in sides if _is_owner_column(side)]
            if len(aliases) == 2:
                pairs.append((aliases[0], aliases[1]))
            elif aliases and any(_is_owner(side) for side in sides):
                theirs.add(aliases[0])
    outer = part.find_ancestor(exp.Select, exp.Update, exp.Delete)
    if outer is not None and not isinstance(part.parent, exp.CTE):
        theirs |= _of_the_owner(outer)
    for _ in pairs:  # as often as a chain can be long
        for a, b in pairs:
            theirs |= {a, b} if theirs & {a, b} else set()
    return theirs


def _is_owner_column(node: exp.Expr) -> bool:
    return isinstance(node, exp.Column) and node.name == OWNER


def _is_owner(node: exp.Expr) -> bool:
    return isinstance(node, exp.Placeholder) and node.name == "owner"


def _of_no_shard(tree: exp.Expr) -> Iterator[Breach]:
    """Find parts that read no distributed table, themselves or in a part that they read.

    A subquery without a FROM takes a value apart and stays where it is; one in FROM does not.
    """
    ctes = {cte.alias: cte.this for cte in tree.find_all(exp.CTE)}

    def has_table(part: exp.Expr, seen: frozenset[str]) -> bool:
        if isinstance(part, exp.Insert):
            return isinstance(part.expression, exp.Values) or has_table(part.expression, seen)
        if isinstance(part, exp.SetOperation):
            return any(has_table(side, seen) for side in (part.left, part.right))
        return any(is_of_one(source, seen) for source in _sources(part))

    def is_of_one(source: exp.Expr, seen: frozenset[str]) -> bool:
        name = source.name
        if isinstance(source, exp.Table):
            is_part = name in ctes and name not in seen
            return name in DISTRIBUTED or (is_part and has_table(ctes[name], seen | {name}))
        is_query = isinstance(source, exp.Subquery | exp.Lateral)
        found = source.this.unnest() if is_query else None
        return isinstance(found, exp.Query) and has_table(found, seen)

    for name, part in [*ctes.items(), ("the statement itself", tree)]:
        if not has_table(part, frozenset()):
            yield Breach(Rule.FROM, name)


class _Modification:
    """An INSERT, UPDATE or DELETE, a part of a statement or all of it."""

    def __init__(self, part: exp.Expr, functions: Volatility) -> None:
        self._part = part
        self._functions = functions

    def breaches(self) -> Iterator[Breach]:
        part = self._part
        if isinstance(part, exp.Insert):
            yield from self._inserted(part)
        else:
            written = list(part.expressions) if isinstance(part, exp.Update) else []
            if any(isinstance(one, exp.EQ) and _is_owner_column(one.left) for one in written):
                yield Breach(Rule.MOVED, part.this.name)
            values = [one.expression for one in written]
            where = part.args.get("where")
            yield from self._evaluated([*values, *([where.this] if where else [])])
        if returning := part.args.get("returning"):
            yield from self._found(Rule.RETURNING, [returning], MUTABLE)

    def _inserted(self, part: exp.Insert) -> Iterator[Breach]:
        table, values = part.this, part.expression
        names = [column.name for column in table.expressions]
        rows = values.expressions if isinstance(values, exp.Values) else [values]
        for row in rows:
            given = row.expressions
            if OWNER not in names or not _is_owner(given[names.index(OWNER)].unalias()):
                yield Breach(Rule.KEY, table.this.name)
        if conflict := part.args.get("conflict"):
            if any(_is_owner_column(one.left) for one in conflict.expressions):
                yield Breach(Rule.MOVED, table.this.name)
            set_ = [one.expression for one in conflict.expressions]
            yield from self._found(Rule.CONFLICT, set_, MUTABLE)
            if where := conflict.args.get("where"):
                yield from self._found(Rule.CONFLICT, [where], MUTABLE)

    def _evaluated(self, expressions: list[exp.Expr]) -> Iterator[Breach]:
        yield from self._found(Rule.VOLATILE, expressions, VOLATILE)
        for call in self._calls(expressions, MUTABLE):
            # What a query of its own computes is carried out on the shard.
            is_own = call.find_ancestor(exp.Select, exp.DML) is self._part
            if is_own and call.find(exp.Column):
                yield Breach(Rule.STABLE, call.sql(dialect=POSTGRES))
        for expression in expressions:
            for choice in expression.find_all(exp.Case, exp.Coalesce):
                yield from self._found(Rule.CASE, [choice], MUTABLE)

    def _found(
        self, rule: Rule, expressions: Iterable[exp.Expr], levels: frozenset[str]
    ) -> Iterator[Breach]:
        for call in self._calls(expressions, levels):
            yield Breach(rule, call.sql(dialect=POSTGRES))

    def _calls(self, expressions: Iterable[exp.Expr], levels: frozenset[str]) -> Iterator[exp.Expr]:
        """Find calls of functions that are so volatile; one that is not known is volatile."""
        for expression in expressions:
            for call in expression.find_all(exp.Func):
                text = call.sql(dialect=POSTGRES).lower()
                matched = _CALL.match(text)
                name = matched[1] if matched else text
                name = _NAMES.get(name, name)
                if name in _SYNTAX or isinstance(call, _NOT_CALLS):
                    continue
                if self._functions.get(name, "v") in levels:
                    yield call


_NOT_CALLS = (exp.Connector, exp.Cast, exp.Case, exp.If, exp.Array, exp.Exists)
_SYNTAX = {"", "coalesce", "nullif", "exists", "case", "cast", "interval", "extract", "any"}
"""What sqlglot takes for functions, and Postgres does not look up by a name."""
