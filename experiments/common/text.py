"""Tables of text."""

from collections.abc import Sequence


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Lay out cells in left-aligned columns, with a rule below the first row.

    Args:
        rows: of the same number of cells; the first holds the headings.

    Returns:
        A line for each row and the rule, without trailing spaces or newline.

    Example:
        >>> print(text_table([("solver", "error"), ("DDIM", "0.25")]))
        solver  error
        -------------
        DDIM    0.25
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(line.rstrip() for line in lines)
