"""No test of this folder may reach for the network; `datasets` reads this when it is first imported."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
