"""The catalogue of what handlers must not do, one handler for each; and their innocent neighbours."""

from tests.flows.catalogue import crash, errors, hang, harmless, innocent, others, outputs
from tests.flows.catalogue.common import flow

__all__ = ["crash", "errors", "flow", "hang", "harmless", "innocent", "others", "outputs"]
