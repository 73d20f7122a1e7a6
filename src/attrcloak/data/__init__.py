"""What flows: interactions, people and what they asked for, tables of embeddings."""

from attrcloak.data.attributes import Attribute, UserAttributes
from attrcloak.data.cells import Cells
from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.data.ids import Ids
from attrcloak.data.interactions import Interactions, Split

__all__ = ["Attribute", "Cells", "EmbeddingTable", "Ids", "Interactions", "Split", "UserAttributes"]
