"""A run at an address: its folder is local, and each checkpoint is copied there and back again.

There a state is named after its content. ``checkpoint.json``, written last, says which one counts
and its SHA-256; what a cut connection leaves beside it is never read.
"""

import json
from pathlib import Path

from edgekeeper.data.remote import RemoteFolder
from edgekeeper.errors import CheckpointError
from edgekeeper.files import sha256_of, write_bytes

MARKER, LAST, LOG = "checkpoint.json", "last.safetensors", "log.jsonl"


class Mirror:
    """The copy of the run's ``folder`` at ``address``."""

    def __init__(self, address: str, *, folder: Path) -> None:
        self.remote, self.folder = RemoteFolder(address), folder

    def pull(self) -> None:
        """Make the local state that of the last complete checkpoint; none where there is none."""
        marker = self._marker()
        if marker is None:
            for name in (LAST, LOG):
                (self.folder / name).unlink(missing_ok=True)
            return
        target, digest = self.folder / LAST, marker["sha256"]
        self.remote.fetch(marker["file"], target, digest=digest, error=CheckpointError)
        log = self.remote.read(LOG, error=CheckpointError)  # its later lines are dropped
        write_bytes(self.folder / LOG, log or b"", error=CheckpointError)

    def push(self, name: str, *, step: int) -> None:
        """Copy the file ``name``; the whole state with the log, and the marker as the last act."""
        if name != LAST:
            self.remote.write(name, self.folder / name, error=CheckpointError)
            return
        before = self._marker()
        digest = sha256_of(self.folder / LAST)
        state = f"state-{digest[:16]}.safetensors"
        self.remote.write(LOG, self.folder / LOG, error=CheckpointError)
        self.remote.write(state, self.folder / LAST, error=CheckpointError)
        marker = {"file": state, "step": step, "sha256": digest}
        self.remote.write(MARKER, json.dumps(marker).encode(), error=CheckpointError)
        if before is not None and before["file"] != state:
            self.remote.remove(before["file"])

    def _marker(self) -> dict[str, str] | None:
        content = self.remote.read(MARKER, error=CheckpointError)
        if content is None:
            return None
        try:
            found = json.loads(content)
            return {key: str(found[key]) for key in ("file", "sha256")}
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"'{self.remote.address}/{MARKER}' is damaged.") from error
