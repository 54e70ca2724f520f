"""One rule of a contract as it is written: a piece of text, or fields."""

from fleetflash.acceptance.expression import ExpressionError, check
from fleetflash.acceptance.yaml_nodes import Node
from fleetflash.agent.acceptance.contract import Match, Rule, Value

MATCH = ("line", "pattern", "tag", "level")
#: What may be said in each section besides the match and a name.
ALLOWED = {
    "in_order": ("within",),
    "any_order": ("within", "at_least", "at_most"),
    "never": (),
    "limits": ("at_most",),
    "values": ("within", "at_least", "group", "min", "max", "equals", "one_of"),
}
MOST_COUNT = 1_000_000


def read_match(node: Node, what: str, fields: dict[str, Node] | None = None) -> Match:
    """Return which lines are meant; raises ``ContractError``."""
    if node.is_text:
        return Match(text=_line(node, what))
    fields = node.fields(what, MATCH) if fields is None else fields
    if "line" in fields and "pattern" in fields:
        fields["pattern"].refuse(f"{what}: expected either line (a piece of text) or pattern (a regular expression)")
    if not set(MATCH) & set(fields):
        node.refuse(f"{what}: which line is meant? Expected one of {', '.join(MATCH)}")
    level = fields["level"].text("level") if "level" in fields else ""
    if set(level) - set("EWIDV"):
        fields["level"].refuse(f"level: expected some of the letters E W I D V, found {level!r:.20}")
    return Match(
        text=_line(fields["line"], "line") if "line" in fields else "",
        pattern=_pattern(fields["pattern"]) if "pattern" in fields else "",
        tag=fields["tag"].text("tag") if "tag" in fields else "",
        level=level,
    )


def read_rule(node: Node, section: str, within: float, sequence: int) -> Rule:
    """Return a rule. ``within``: the contract's own deadline; raises ``ContractError``."""
    fields = {} if node.is_text else node.fields(section, ("name", *MATCH, *ALLOWED[section]))
    match = read_match(node, section, fields)
    name = fields["name"].text("name") if "name" in fields else _name(match)
    least, most = _counts(node, section, fields)
    if "within" in fields:
        within = fields["within"].seconds("within")
        if within <= 0:
            fields["within"].refuse("within: expected more than 0 s")
    value = _value(node, fields, match) if section == "values" else None
    return Rule(name, match, node.line, least, most, within, sequence, value)


def _name(match: Match) -> str:
    origin = [f"level {match.level}"] * bool(match.level) + [f"tag {match.tag}"] * bool(match.tag)
    return match.text or match.pattern or ", ".join(origin)


def _counts(node: Node, section: str, fields: dict[str, Node]) -> tuple[int, int | None]:
    if section == "never":
        return 0, 0
    least = 0 if section == "limits" else 1
    if "at_least" in fields:
        least = fields["at_least"].count("at_least", 0 if section == "values" else 1, MOST_COUNT)
    most = fields["at_most"].count("at_most", 1, MOST_COUNT) if "at_most" in fields else None
    if section == "limits" and most is None:
        node.refuse("limits: at_most is missing; what must not come at all belongs to never")
    if most is not None and most < least:
        fields["at_most"].refuse(f"at_most: {most} is less than the {least} that must come")
    return least, most


def _value(node: Node, fields: dict[str, Node], match: Match) -> Value:
    if "pattern" not in fields:
        node.refuse("values: expected a pattern with a group for the value")
    compiled = check(match.pattern)
    group = fields["group"].text("group") if "group" in fields else next(iter(compiled.groupindex), "1")
    known = [*compiled.groupindex, *map(str, range(1, compiled.groups + 1))]
    if group not in known:
        fields.get("group", node).refuse(f"the pattern has no group {group!r}; it has {', '.join(known) or 'none'}")
    least = fields["min"].number("min") if "min" in fields else None
    most = fields["max"].number("max") if "max" in fields else None
    if least is not None and most is not None and least > most:
        fields["min"].refuse(f"min: {least:g} is more than max, {most:g}")
    if "equals" in fields and "one_of" in fields:
        fields["one_of"].refuse("one_of: equals is there already")
    one_of = [fields["equals"].text("equals")] if "equals" in fields else []
    if "one_of" in fields:
        one_of = [item.text("one_of") for item in fields["one_of"].items("one_of")]
        if not one_of:
            fields["one_of"].refuse("one_of: the list is empty")
    if least is None and most is None and not one_of:
        node.refuse("values: expected min, max, equals or one_of")
    return Value(group, least, most, one_of)


def _line(node: Node, what: str) -> str:
    text = node.text(what)
    if not text.strip() or "\n" in text:
        node.refuse(f"{what}: expected a piece of one line, found {text!r:.60}")
    return text


def _pattern(node: Node) -> str:
    pattern = node.text("pattern")
    try:
        check(pattern)
    except ExpressionError as error:
        node.refuse(f"pattern: {error}")
    return pattern
