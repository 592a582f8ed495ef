"""A packed store as a dataset of PyTorch, for a training loop of one's own."""

from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from edgekeeper.data.store import Store


class Patches(Dataset[tuple[Tensor, Tensor]]):
    """Aligned patches (lr, hr) of a store, for ``torch.utils.data.DataLoader``.

    Item i is patch 0 of the batch of step i, float in [0, 1]: the same for any number of workers.
    ``length`` is what an epoch is. ``asked`` are arguments of ``Store.batch``: ``patch``,
    ``scale``, ``augment``, ``crop``.
    """

    def __init__(self, store: Store, *, length: int, seed: int = 0, **asked: Any) -> None:
        self.store, self.length, self.seed, self.asked = store, length, seed, asked

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "store": self.store.path}  # a spawned worker maps it anew

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, store=Store.open(state["store"]))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not 0 <= index < self.length:
            raise IndexError(f"Item {index} of {self.length}.")
        batch = self.store.batch(seed=self.seed, step=index, size=1, **self.asked).as_float()
        return batch.lr[0], batch.hr[0]  # (3, p, p), (3, scale * p, scale * p)
