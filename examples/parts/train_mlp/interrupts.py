"""What Ctrl-C does while a script imports its libraries."""

import os
import signal


def end_with(message: str | None) -> None:
    """Let Ctrl-C print a message and end the process, or raise again if it is None.

    A handler that raises would not do: some imports turn an exception into another one.
    If the process ignores Ctrl-C, as in the background, it stays so.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        return
    if message is None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return

    def end(*_):
        os.write(1, f"\n{message}\n".encode())
        os._exit(130)

    signal.signal(signal.SIGINT, end)
