"""The one program of the guest: PID 1, or with `child ROLE …` one of its children.

Each imports only what it needs: a child never loads PID 1's code.
"""

import sys


def main() -> None:
    """Become what the arguments name; returns only if that failed."""
    if sys.argv[1:2] == ["child"]:
        from ccinit.agent.processes.child import main as child_main  # noqa: PLC0415  # only what is needed

        child_main(sys.argv[2:])
    from ccinit.init.lean import disable_libraries  # noqa: PLC0415  # only what is needed

    disable_libraries()
    from ccinit.init.main import main as init_main  # noqa: PLC0415  # only what is needed

    init_main()


if __name__ == "__main__":
    main()
