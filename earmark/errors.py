"""The one error that a user can mend: the rule, what came, what to do."""


class UserError(Exception):
    """Something that the user can mend; shown as one line, without a traceback.

    Args:
        message: the rule, what came instead, and what to do, in one line.
        where: the file, and the line if there is one, in front of the message.
    """

    def __init__(self, message: str, *, where: object = None, line: int | None = None) -> None:
        place = "" if where is None else f"{where}{'' if line is None else f', line {line}'}: "
        super().__init__(printable(" ".join(f"{place}{message}".split())))


def first_line(error: BaseException) -> str:
    """What an error of somebody else's says, as far as it fits into a line of ours.

    >>> first_line(ValueError("no such axis\\nin node 3")), first_line(KeyError())
    ('no such axis', 'KeyError')
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def printable(text: str) -> str:
    r"""Text with escapes for what would command a terminal, or couldn't be printed.

    >>> printable("Grünfink\x1b[2J")
    'Grünfink\\x1b[2J'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
