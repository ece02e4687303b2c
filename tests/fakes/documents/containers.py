"""A container of a manifest and the configuration of its image, of which little is said."""

from ccinit.formats.oci.image import ImageConfig
from ccinit.formats.pod.container import Container, ContainerKind, Resources, Restart

CONTAINER = Container(
    name="web",
    image="image",
    kind=ContainerKind.MAIN,
    args=(),
    env=(),
    user=None,
    cwd=None,
    read_only=True,
    restart=Restart.NEVER,
    depends_on=(),
    resources=Resources(),
    mounts=(),
)
IMAGE = ImageConfig(
    user="",
    env=("PATH=/bin", "A=1"),
    entrypoint=("/entry",),
    cmd=("one", "two"),
    working_dir="/srv/",
    diff_ids=(),
)
