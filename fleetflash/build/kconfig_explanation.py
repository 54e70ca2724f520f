"""Why Kconfig did not accept a symbol, as ``kconfiglib`` knows it: run as a program in a source tree.

    python kconfig_explanation.py KCONFIG CONFIG SYMBOL…

Prints a JSON object: symbol → one phrase such as ``in "Optional features"; needs LOW_LEVEL_OPTIONS``. Symbols of which
nothing can be said are left out. Whoever runs it puts the tree's own ``lib/kconfiglib`` into its path. Exit code 3 when
there is no kconfiglib at all.

Source: kconfiglib 14.1, docstrings of ``Kconfig``, ``Symbol``, ``MenuNode``, ``expr_value`` and ``split_expr``.
"""

import difflib
import json
import sys
from typing import Any


def explain(kconfiglib: Any, configuration: Any, name: str) -> str:
    symbol = configuration.syms.get(name)
    if symbol is None or not symbol.nodes:
        known = [known for known, each in configuration.syms.items() if each.nodes]
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.7)
        return f"there is no such symbol{', but ' + ' and '.join(near) if near else ''}"
    node = next((node for node in symbol.nodes if node.prompt), symbol.nodes[0])
    phrases = []
    if where := _menu_path(node):
        phrases.append(f"in {where}")
    if node.prompt is None:
        phrases.append("it can't be set, it follows from other symbols")
        return "; ".join(phrases)
    unmet = [
        kconfiglib.expr_str(part)
        for part in kconfiglib.split_expr(node.prompt[1], kconfiglib.AND)
        if kconfiglib.expr_value(part) == 0
    ]
    if unmet:
        phrases.append(f"needs {' and '.join(unmet)}")
    elif symbol.choice is not None and symbol.choice.selection is not symbol:
        selection = symbol.choice.selection
        phrases.append(f"the choice is {selection.name if selection else 'empty'}")
    elif symbol.choice is not None:
        phrases.append("it is the choice; ask for another one instead")
    elif symbol.type in (kconfiglib.INT, kconfiglib.HEX, kconfiglib.STRING):
        allowed = [
            f" from {low.str_value} to {high.str_value}"
            for low, high, condition in symbol.ranges
            if kconfiglib.expr_value(condition)
        ]
        phrases.append(f"takes {kconfiglib.TYPE_TO_STR[symbol.type]}{''.join(allowed[:1])}")
    elif kconfiglib.expr_value(symbol.rev_dep):
        selecting = [
            part for part in kconfiglib.split_expr(symbol.rev_dep, kconfiglib.OR) if kconfiglib.expr_value(part)
        ]
        phrases.append(f"selected by {' and '.join(map(kconfiglib.expr_str, selecting))}")
    else:
        phrases.append("takes y or n")
    return "; ".join(phrases)


def _menu_path(node: Any) -> str:
    titles = []
    while node.parent is not None:
        if node.prompt:
            titles.append(f'"{node.prompt[0]}"')
        node = node.parent
    return " > ".join(reversed(titles))


def main() -> int:
    try:
        import kconfiglib
    except ImportError:
        return 3
    kconfig, config, *names = sys.argv[1:]
    configuration = kconfiglib.Kconfig(kconfig, warn=False)
    configuration.load_config(config)
    found = {name: explain(kconfiglib, configuration, name) for name in names}
    print(json.dumps({name: phrase for name, phrase in found.items() if phrase}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
