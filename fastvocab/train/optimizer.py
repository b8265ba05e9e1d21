"""What trains, in three groups with a learning rate each: adapters, old rows, added rows.

Where a whole embedding matrix trains (``embeddings: full``), the optimizer is given slices of it as parameters of
their own: same memory, so that an update of a slice is one of the matrix, and a gradient that is a slice of the
matrix's. Clipping, gradient scaling and saves see one matrix as before.

In the phase of ``rows_first`` the added rows train alone. The other parameters get no gradient, so the optimizer
neither moves them nor starts their moments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastvocab import console
from fastvocab.config.models import TrainSection
from fastvocab.model import load
from fastvocab.train import subwords

#: Group -> the key of its learning rate, in the configuration and in log.jsonl.
RATES = {
    "adapters": "learning_rate",
    "old_rows": "embedding_learning_rate",
    "new_rows": "new_rows_learning_rate",
}
#: Of the added rows, where none is given, as a share of the typical weight of the base's rows: 3e-3 on SmolLM2-135M
#: (0.12). A rate of its own for each model: Adam moves a weight by the rate, and Llama-3's rows are 12 times smaller.
NEW_ROWS_SHARE = 0.025
#: Of adapters. Published settings lie from 1e-5 to 1e-3 (unsloth and the LoRA paper: 2e-4); 25 times the default.
HIGHEST_ADAPTER_RATE = 5e-3


class Groups:
    """The parameters of a model that train.

    Args:
        model: from `checkpoint.load(trainable=True)`.
        new_ids: ids of the added rows; empty where there are none.
        words: what they stand for, where they are to share what they learn (`fastvocab.train.subwords`).

    Attributes:
        adapters, old_rows, new_rows: parameters for the optimizer; those of rows are slices of ``matrices``, or
            the rows that `fastvocab.model.new_rows` opened.
        shared: what the added rows of each matrix share.
        matrices: embedding matrices that train as a whole, (rows, width).
        rows_alone: whether nothing but the added rows trains now.
        row_size: root mean square of the base's own input rows, of the first 8,192 of them.
    """

    def __init__(self, model: Any, new_ids: range, words: Sequence[str | None] = ()) -> None:
        opened = list(load.trained_rows(model).values())
        self.matrices = [w for w in load.embedding_weights(model).values() if w.requires_grad]
        known = {id(p) for p in [*opened, *self.matrices]}
        self.adapters = [p for p in model.parameters() if p.requires_grad and id(p) not in known]
        self.old_rows: list[Any] = []
        self.new_rows: list[Any] = opened
        self.rows_alone = False
        self._slices: list[tuple[Any, Any, int, int]] = []
        own = load.embedding_weights(model)["embed_tokens"][: min(8192, new_ids.start or 8192)]
        self.row_size = float(own.detach().float().pow(2).mean().sqrt())
        for matrix in self.matrices:
            self._split(matrix, new_ids)
        of = subwords.table(words) if words and self.new_rows else None
        self.shared = [] if of is None or not of.shape[1] else [subwords.Shared(p, of) for p in self.new_rows]

    @property
    def shared_bytes(self) -> int:
        """Of `shared`."""
        return sum(shared.part.numel() * shared.part.element_size() for shared in self.shared)

    def _split(self, matrix: Any, new_ids: range) -> None:
        import torch

        # rows beyond the added ones are padding; they get gradients as every row of a head does
        cuts = [(0, new_ids.start), (new_ids.start, new_ids.stop), (new_ids.stop, len(matrix))]
        if not new_ids:
            cuts = [(0, len(matrix))]
        slices = []
        for first, stop in cuts:
            if first == stop:
                continue
            part = torch.nn.Parameter(matrix.data[first:stop])
            is_new = bool(new_ids) and first == new_ids.start
            (self.new_rows if is_new else self.old_rows).append(part)
            slices.append((part, first, stop, is_new))
            self._slices.append((part, matrix, first, stop))

        def share(matrix: Any) -> None:
            # after each backward pass: a gradient scaler looks for gradients before the optimizer's step
            for part, first, stop, is_new in slices:
                # a matrix that was moved or cast since would no longer follow its slices
                assert part.data_ptr() == matrix.data[first].data_ptr(), (
                    "the slice is the matrix's own memory"
                )
                if self.rows_alone and not is_new:
                    matrix.grad[first:stop].zero_()  # clipping must not see it either
                    part.grad = None
                else:
                    part.grad = matrix.grad[first:stop]

        matrix.register_post_accumulate_grad_hook(share)

    def tie(self) -> None:
        """Let slices be their matrix's memory again, after something has moved it: DistributedDataParallel does."""
        for part, matrix, first, stop in self._slices:
            part.data = matrix.data[first:stop]

    def train_rows_alone(self, alone: bool) -> None:
        """Begin or end the phase in which the added rows train and nothing else moves."""
        self.rows_alone = alone
        for parameter in self.adapters:
            parameter.requires_grad_(not alone)

    def rates(self, section: TrainSection) -> dict[str, float]:
        """Peak learning rates by their keys, of the groups that there are."""
        asked = {key: getattr(section, key) for name, key in RATES.items() if getattr(self, name)}
        return {key: NEW_ROWS_SHARE * self.row_size if rate is None else rate for key, rate in asked.items()}

    def optimizer(self, kind: Any, options: dict[str, Any], section: TrainSection) -> Any:
        """An optimizer of class ``kind``; its groups have a ``name`` (`RATES`).

        Rows have no weight decay: it would pull on rows that a batch does not even hold.
        """
        rates = self.rates(section)
        parts = {"new_rows": [shared.part for shared in self.shared]}
        groups = [
            {
                "name": name,
                "params": [*parameters, *parts.get(name, [])],
                "lr": rates[RATES[name]],
                "weight_decay": section.weight_decay if name == "adapters" else 0.0,
            }
            for name in RATES
            if (parameters := getattr(self, name))
        ]
        optimizer = kind(groups, **options)
        if options.get("optim_bits") == 8:
            _keep_exact(optimizer, [*self.new_rows, *(shared.part for shared in self.shared)])
        optimizer.register_step_pre_hook(self._before_step)
        optimizer.register_step_post_hook(self._after_step)
        return optimizer

    def _before_step(self, *_: Any) -> None:
        for shared in self.shared:
            shared.before_step()

    def _after_step(self, *_: Any) -> None:
        for shared in self.shared:
            shared.after_step()
        # a slice's gradient would keep that of the whole matrix in memory
        for parameter in [*self.old_rows, *self.new_rows, *self.matrices]:
            parameter.grad = None


def _keep_exact(optimizer: Any, rows: list[Any]) -> None:
    """Moments of ``rows`` in 32 bits under an 8-bit optimizer of bitsandbytes.

    transformers and unsloth keep those of a whole input embedding so, which they know by its module, and ours are
    slices of it. Of the old rows, many times as many, they stay in 8 bits: 6 bytes a weight.

    Not by ``GlobalOptimManager``: it knows a parameter by its ``id`` for as long as the process lives, and in a later
    stage that may be another's.
    """
    exact, own = {id(row) for row in rows}, optimizer.get_config

    def get_config(gindex: int, pindex: int, group: dict[str, Any]) -> dict[str, Any]:
        config: dict[str, Any] = own(gindex, pindex, group)
        return config | ({"optim_bits": 32} if id(group["params"][pindex]) in exact else {})

    optimizer.get_config = get_config


def warn_of_rates(section: TrainSection, stage: str, groups: Groups) -> None:
    """Say which learning rates are beyond all use for this model.

    Adam moves each weight by about the learning rate in one step, whatever the gradient. A rate above the typical
    size of a row's weights (SmolLM2-135M: 0.14, Llama-3: about 0.01) replaces a row in a single step.
    """
    if section.learning_rate > HIGHEST_ADAPTER_RATE:
        console.warn(
            f"{stage}.learning_rate is {section.learning_rate:g}: adapters are usually trained with 1e-5 to 1e-3"
        )
    rates = groups.rates(section)
    for name, usual in (("old_rows", "1e-5 to 3e-4"), ("new_rows", "a hundredth of that")):
        rows = getattr(groups, name)
        if not rows:
            continue
        rate = rates[RATES[name]]
        square = sum(float(p.detach().float().pow(2).sum()) for p in rows)
        size = (square / sum(p.numel() for p in rows)) ** 0.5
        if rate > size:
            console.warn(
                f"{stage}.{RATES[name]} is {rate:g}, and the rows' own weights are about {size:.2g} in size: "
                f"one step replaces them; usual are {usual}"
            )
