"""Every key that a person may set: the models, reading them from YAML and the command line, describing them."""

from fastvocab.config.load import load, parse_overrides
from fastvocab.config.models import STAGES, Config

__all__ = ["STAGES", "Config", "load", "parse_overrides"]
