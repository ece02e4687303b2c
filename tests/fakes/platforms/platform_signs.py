"""What shows a guest which platform it runs on."""

from dataclasses import dataclass, field


@dataclass(kw_only=True)
class FakeSigns:
    """What a guest sees."""

    paths: set[str] = field(default_factory=set)
    texts: dict[str, str] = field(default_factory=dict)
    provider: str = ""

    def exists(self, path: str) -> bool:
        return path in self.paths

    def read(self, path: str) -> str:
        return self.texts.get(path, "")

    def tsm_provider(self) -> str:
        return self.provider
