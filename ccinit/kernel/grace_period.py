"""How long the kernel waits until nothing refers to removed data any more (RCU grace periods).

Specification: Linux Documentation/RCU/, `rcupdate.rcu_expedited` in kernel-parameters.txt.
"""

from ccinit.kernel.small_files import write_setting

SWITCH = "/sys/kernel/rcu_expedited"


def expedite_grace_periods(*, on: bool) -> None:
    """Make grace periods short, or as long as usual again.

    A short one interrupts every processor and takes less than a millisecond; a normal one waits
    until each has passed through its scheduler, some 15 ms however fast the machine is.

    Raises:
        KernelError: the kernel has no such switch, or it is read-only.
    """
    write_setting(SWITCH, b"1\n" if on else b"0\n", "grace_period")
