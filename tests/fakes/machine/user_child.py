"""The child `user`, played in this process."""

from collections.abc import Mapping
from types import SimpleNamespace

from ccinit.run.users import Identity, UserRequest, user_job


async def play_user_child(request: UserRequest, fds: Mapping[str, int]) -> Identity:
    """Do the child's job."""
    return user_job(request, SimpleNamespace(fds=fds))
