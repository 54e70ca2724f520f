"""A contract as it is written: YAML beside the firmware, compiled and checked (docs/acceptance.md)."""

import itertools
from collections.abc import Iterator
from pathlib import Path

from fleetflash.acceptance.errors import ContractError
from fleetflash.acceptance.rule_node import read_match, read_rule
from fleetflash.acceptance.yaml_nodes import Node
from fleetflash.agent.acceptance.contract import POWER_CYCLE, RESET, Choice, Contract, Match, Retry, Rule, Variant
from fleetflash.agent.acceptance.lines import parse
from fleetflash.agent.acceptance.matcher import Matcher
from fleetflash.agent.acceptance.panic import BROWNOUT, PANIC

__all__ = ["ContractError", "read_contract"]

#: The version of the format.
VERSION = 1
SECTIONS = ("in_order", "any_order", "never", "limits", "values")
FIELDS = ("contract", "within", "settle", "restarts", "panics", "brownouts", "retry", "equipment", *SECTIONS)
MOST_RULES = 200
MOST_ATTEMPTS = 10


def read_contract(path: Path) -> Contract:
    """Return the contract of a file; raises ``ContractError``, which names file and line."""
    top = Node.read(path)
    fields = top.fields("a contract", FIELDS)
    for name in ("contract", "within", "settle"):
        if name not in fields:
            top.refuse(f"{name} is missing; see docs/acceptance.md")
    if fields["contract"].text("contract") != str(VERSION):
        fields["contract"].refuse(f"contract: expected {VERSION}, the version of this format")
    within = _positive(fields["within"], "within")
    counter = itertools.count(1)
    rules = [*_failures(fields), *_sections(fields, within, counter)]
    contract = Contract(
        file=path.name,
        rules=rules,
        choices=_choices(fields["equipment"], within, counter) if "equipment" in fields else [],
        settle=fields["settle"].seconds("settle"),
        restarts=fields["restarts"].count("restarts", 0, 100) if "restarts" in fields else 0,
        restarts_line=fields["restarts"].line if "restarts" in fields else 0,
        settle_line=fields["settle"].line,
        retry=_retry(fields["retry"]) if "retry" in fields else Retry(),
    )
    _check(top, contract)
    return contract


def _failures(fields: dict[str, Node]) -> Iterator[Rule]:
    """Every contract limits these; none is allowed unless it says so."""
    for name, pattern in (("panics", PANIC), ("brownouts", BROWNOUT)):
        node = fields.get(name)
        most = node.count(name, 0, 100) if node else 0
        yield Rule(name, Match(pattern=pattern), node.line if node else 0, least=0, most=most)


def _sections(fields: dict[str, Node], within: float, counter: Iterator[int]) -> list[Rule]:
    rules = []
    for section in SECTIONS:
        if section not in fields:
            continue
        sequence = next(counter) if section == "in_order" else 0
        items = fields[section].items(section)
        if not items:
            fields[section].refuse(f"{section}: the list is empty; leave it out")
        rules += [read_rule(item, section, within, sequence) for item in items]
    return rules


def _choices(node: Node, within: float, counter: Iterator[int]) -> list[Choice]:
    choices = []
    for name, described in node.fields("equipment").items():
        variants = []
        for variant, fields_node in described.fields(f"equipment {name}").items():
            fields = fields_node.fields(f"equipment {name}: {variant}", ("shown_by", *SECTIONS))
            shown_by = read_match(fields["shown_by"], "shown_by") if "shown_by" in fields else None
            variants.append(Variant(variant, fields_node.line, shown_by, _sections(fields, within, counter)))
        if len(variants) < 2:
            described.refuse(f"equipment {name}: expected two variants or more, such as yes and no")
        choices.append(Choice(name, described.line, variants, within))
    return choices


def _retry(node: Node) -> Retry:
    fields = node.fields("retry", ("attempts", "pause", "recovery"))
    attempts = fields["attempts"].count("attempts", 1, MOST_ATTEMPTS) if "attempts" in fields else 1
    recovery = fields["recovery"].text("recovery") if "recovery" in fields else RESET
    if recovery not in (RESET, POWER_CYCLE):
        fields["recovery"].refuse(f"recovery: {recovery!r} is neither {RESET} nor {POWER_CYCLE}")
    return Retry(attempts, fields["pause"].seconds("pause") if "pause" in fields else 0.0, recovery)


def _positive(node: Node, what: str) -> float:
    seconds = node.seconds(what)
    if seconds <= 0:
        node.refuse(f"{what}: expected more than 0 s")
    return seconds


def _check(top: Node, contract: Contract) -> None:
    """Refuse what no log could meet, and what every log would."""
    file = top.file
    if len(contract.all_rules) > MOST_RULES:
        top.refuse(f"{len(contract.all_rules)} rules; {MOST_RULES} are allowed")
    if not any(rule.least for rule in contract.rules):
        top.refuse("nothing must come: a dead board would be accepted; add in_order or any_order")
    for scope in _scopes(contract):
        named: dict[str, Rule] = {}
        for rule in scope:
            if rule.name in named:
                raise ContractError(
                    f"{file}:{rule.line}: the rule {rule.name!r} is there already, in line {named[rule.name].line}; "
                    "give it another name"
                )
            named[rule.name] = rule
        for rule in scope:
            _check_contradiction(file, rule, [other for other in scope if other.most == 0])


def _scopes(contract: Contract) -> Iterator[list[Rule]]:
    """Yield the rules that hold at the same time, of each variant."""
    yield contract.rules
    for choice in contract.choices:
        for variant in choice.variants:
            yield [*contract.rules, *variant.rules]


def _check_contradiction(file: str, rule: Rule, forbidden: list[Rule]) -> None:
    match = rule.match
    if not rule.least or not match.text:
        return
    line = parse(1, f"{match.level[:1] or 'I'} (1) {match.tag}: {match.text}" if match.tag else match.text)
    for other in forbidden:
        if Matcher(other.match).meets(line):
            where = f" (line {other.line})" if other.line else ""
            raise ContractError(f"{file}:{rule.line}: {rule.name!r} must come, but {other.name!r}{where} forbids it")
