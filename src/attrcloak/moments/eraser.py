"""The result of unlearning in moment space: one affine map a cell."""

import hashlib
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from attrcloak.errors import InvalidInput, NotSupported, UnreadableFile, not_there
from attrcloak.moments.cell_key import CellKey
from attrcloak.moments.cell_moments import Matrix
from attrcloak.moments.tile_passes import tile_passes
from attrcloak.moments.tiles import Block, Tile, blocks_by_cell, map_over_tiles
from attrcloak.whole_file import replacing

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = "attrcloak/eraser/1"

Scaling = Literal["none", "unit"]
Float = TypeVar("Float", bound=np.floating)


@dataclass(frozen=True, eq=False)
class Eraser:
    """x -> M_c x + t_c for every user of cell c.

    **A secret**: a lone user's cell gives that user's vector away, and the null draw of an exact map gives labels away.
    Keep it like a key.

    Attributes:
        key: what the C cells mean.
        matrices: (C, d, d) M_c, float64.
        offsets: (C, d) t_c, float64.
        scaling: "unit" when every vector is brought to one common length before the map; the caller of ``apply`` does
            that, because lengths belong to the table's owner.
        common_length: that length, when ``scaling`` is "unit".
        provenance: method, settings, versions and the fingerprint of the table it was fitted on, as text.
    """

    key: CellKey
    matrices: Matrix
    offsets: Matrix
    scaling: Scaling = "none"
    common_length: float = 1.0
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        cells, d = len(self.key), self.offsets.shape[-1]
        if self.matrices.shape != (cells, d, d) or self.offsets.shape != (cells, d):
            raise InvalidInput(
                f"an eraser of {cells} cells needs matrices (cells, d, d) and offsets (cells, d), "
                f"not {self.matrices.shape} and {self.offsets.shape}"
            )
        if not (np.isfinite(self.matrices).all() and np.isfinite(self.offsets).all()):
            raise InvalidInput(
                "the eraser holds NaN or infinity; the solver diverged, so fit it again with smaller steps"
            )
        matrices, offsets = self.matrices.copy(), self.offsets.copy()
        matrices[self.key.unmarked], offsets[self.key.unmarked] = np.eye(d), 0.0
        matrices.setflags(write=False)
        offsets.setflags(write=False)
        object.__setattr__(self, "matrices", matrices)
        object.__setattr__(self, "offsets", offsets)

    @classmethod
    def identity(cls, key: CellKey, dim: int) -> "Eraser":
        """The eraser that moves nobody."""
        return cls(key, np.tile(np.eye(dim), (len(key), 1, 1)), np.zeros((len(key), dim)))

    @property
    def dim(self) -> int:
        """Number of dimensions d."""
        return int(self.offsets.shape[1])

    def locate(self, codes: NDArray[np.integer]) -> NDArray[np.int32]:
        """(n,) cell of each user by class codes (n, A); see ``CellKey.locate``."""
        return self.key.locate(codes)

    @overload
    def apply(
        self, vectors: NDArray[Float], cells: NDArray[np.integer], out: NDArray[Float] | None = None
    ) -> NDArray[Float]: ...

    @overload
    def apply(
        self, vectors: "Tensor", cells: "NDArray[np.integer] | Tensor", out: "Tensor | None" = None
    ) -> "Tensor": ...

    def apply(
        self,
        vectors: "NDArray[Float] | Tensor",
        cells: "NDArray[np.integer] | Tensor",
        out: "NDArray[Float] | Tensor | None" = None,
    ) -> "NDArray[Float] | Tensor":
        """Move every user by the map of its cell.

        The products are in float64 whatever comes in: where a map takes a common offset away, float32 would leave
        thousands of units in the last place.

        Args:
            vectors: (n, d) in any float type, already scaled where ``scaling`` says so; read-only or mapped from a
                file if need be. Not changed. A torch tensor, bfloat16 included, stays on its device and is moved there.
            cells: (n,) cell of each user in [0, C), or -1 for users who asked for nothing. For a tensor an array or a
                tensor, on whatever device.
            out: (n, d) array of the same type to write to, rows in one piece, such as a file's memory map; for a tensor
                a tensor on its device. A new one by default.

        Returns:
            (n, d) new vectors of the same type, a tensor for a tensor. Users who asked for nothing are bit-identical.

        Raises:
            InvalidInput: the table has another number of dimensions than the eraser, or of rows than cells, or ``out``
                does not fit it.
            NotSupported: a tensor on a device that has no float64, or too little memory.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise InvalidInput(
                f"the eraser is for {self.dim} dimensions, the vectors have shape {tuple(vectors.shape)}"
            )
        if not isinstance(vectors, np.ndarray):
            from attrcloak.moments import torch_passes

            return torch_passes.moved(vectors, cells, self.matrices, self.offsets, self.key.unmarked, out)
        cells = np.asarray(cells)
        moved = np.empty(vectors.shape, vectors.dtype) if out is None else out
        if not isinstance(moved, np.ndarray):
            raise InvalidInput(f"out is a {type(moved).__name__}, expected an array like the vectors")
        if moved.shape != vectors.shape or moved.dtype != vectors.dtype or not moved.flags.c_contiguous:
            raise InvalidInput(
                f"out is {moved.dtype} {moved.shape}, expected {vectors.dtype} {vectors.shape} in one piece, row by row"
            )
        stays = np.append(self.key.unmarked, True)  # cell -1 reads the last entry
        passes = tile_passes(vectors.size)

        def move(block: Block, tile: Tile) -> None:
            passes.move_tile(block.vectors, tile, self.matrices, self.offsets, stays, moved[block.rows])

        with map_over_tiles(*vectors.shape) as over:
            for block in blocks_by_cell(vectors, cells, len(self.key)):
                deque(over(partial(move, block), block.tiles), maxlen=0)
        return moved

    @property
    def fingerprint(self) -> str:
        """What tells these maps from others, without telling what they are."""
        meaning = repr((self.key.attributes, self.key.classes, self.scaling, self.common_length)).encode()
        arrays = (self.key.combinations, self.matrices, self.offsets)
        return f"sha256:{hashlib.sha256(b''.join([meaning, *(array.tobytes() for array in arrays)])).hexdigest()}"

    @property
    def has_one_map(self) -> bool:
        """Whether all who move, whatever their classes, move by the same map."""
        fitted = ~self.key.unmarked
        matrices, offsets = self.matrices[fitted], self.offsets[fitted]
        return bool(fitted.any() and (matrices == matrices[:1]).all() and (offsets == offsets[:1]).all())

    def under(self, key: CellKey, users: NDArray[np.integer]) -> "Eraser":
        """The same maps for the cells of another key over the same attributes, such as that of other users.

        An eraser with one map for everybody has it for whatever classes there are.

        Args:
            key: of those users.
            users: (C,) of them in each cell, for messages.

        Returns:
            An eraser with C cells; users of a cell without marks stay where they are.

        Raises:
            InvalidInput: the other key is over other attributes, or over these in another order.
            UnknownCell: a class or a combination of classes that the eraser was not fitted on; named, with its count.
        """
        if key.attributes != self.key.attributes:
            raise InvalidInput(
                f"the eraser is for {', '.join(self.key.attributes)}, and these users have {', '.join(key.attributes)}"
            )
        if self.has_one_map:
            cells = np.full(len(key), np.flatnonzero(~self.key.unmarked)[0])
        else:
            # A cell without users reads some map, and nobody moves by it.
            cells = np.maximum(self.key.locate_cells(key, users), 0)
        return replace(self, key=key, matrices=self.matrices[cells], offsets=self.offsets[cells])

    def compose(self, after: "Eraser") -> "Eraser":
        """The eraser that applies this one and then ``after`` (same cells, no scaling in between)."""
        if not self.key.same_meaning(after.key) or not np.array_equal(self.key.combinations, after.key.combinations):
            raise InvalidInput("these erasers have different cells and cannot be composed")
        if after.scaling != "none":
            raise NotSupported("the second eraser scales vectors first, so the two are not one affine map")
        matrices = after.matrices @ self.matrices
        offsets = np.einsum("cij,cj->ci", after.matrices, self.offsets) + after.offsets
        provenance = {**self.provenance, **after.provenance}
        return replace(self, matrices=np.asarray(matrices), offsets=offsets, provenance=provenance)

    def inverse(self) -> "Eraser":
        """The eraser that undoes the maps. The lengths lost to ``scaling`` are not in here; keep them apart.

        Raises:
            NotSupported: a cell's map has no inverse (LEACE projects), so undo needs the original rows.
        """
        singular = [c for c, m in enumerate(self.matrices) if np.linalg.cond(m) > 1e12]
        if singular:
            raise NotSupported(
                f"the maps of {len(singular)} cells have no inverse (first: "
                f"{self.key.describe(self.key.combinations[singular[0]])}); undoing them needs the original vectors"
            )
        matrices = np.linalg.inv(self.matrices)
        offsets = -np.einsum("cij,cj->ci", matrices, self.offsets)
        return replace(self, matrices=np.asarray(matrices), offsets=offsets, scaling="none")

    def save(self, path: Path | str) -> None:
        """Write to safetensors, whole or not at all, readable by the owner only."""
        from safetensors.numpy import save

        header = {
            "schema": SCHEMA,
            "secret": "keep like a key: cells with one user give that user's vector away",
            "attributes": json.dumps(list(self.key.attributes)),
            "classes": json.dumps([list(names) for names in self.key.classes]),
            "scaling": self.scaling,
            "common_length": repr(self.common_length),
            "provenance": json.dumps(dict(self.provenance)),
        }
        tensors = {"combinations": self.key.combinations, "matrices": self.matrices, "offsets": self.offsets}
        content = save({name: np.ascontiguousarray(array) for name, array in tensors.items()}, metadata=header)
        with replacing(Path(path), secret=True) as temporary:
            temporary.write_bytes(content)

    @classmethod
    def load(cls, path: Path | str) -> "Eraser":
        """Read what ``save`` wrote.

        Raises:
            UnreadableFile: the file is missing, cut short, or not an eraser of a schema this version knows.
        """
        from safetensors import SafetensorError, safe_open

        path = Path(path)
        if not path.exists():
            raise UnreadableFile(not_there(path, path))
        try:
            with safe_open(path, framework="numpy") as file:
                header = file.metadata() or {}
                if header.get("schema") != SCHEMA:
                    raise UnreadableFile(f"{path} is not an eraser ({SCHEMA}); its schema is {header.get('schema')!r}")
                arrays = {name: file.get_tensor(name) for name in ("combinations", "matrices", "offsets")}
        except (SafetensorError, OSError) as error:
            raise UnreadableFile(f"{path} cannot be read as an eraser: {error}") from error
        classes = tuple(tuple(names) for names in json.loads(header["classes"]))
        key = CellKey(tuple(json.loads(header["attributes"])), classes, arrays["combinations"])
        scaling: Scaling = "unit" if header["scaling"] == "unit" else "none"
        return cls(
            key,
            arrays["matrices"],
            arrays["offsets"],
            scaling,
            float(header["common_length"]),
            json.loads(header["provenance"]),
        )
