import importlib
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

here = {(d.name or "").lower().replace("_", "-"): d.version for d in distributions()}
around = [p for p in (Path.cwd(), *Path.cwd().parents) if (p / "fastvocab" / "recipes").is_dir()]
source = SOURCE or next((str(p) for p in around if (p / "pyproject.toml").is_file()), "")


def pip(*packages):
    if packages and subprocess.call([sys.executable, "-m", "pip", "install", "-q", *packages]):
        raise RuntimeError("pip could not install " + " ".join(packages) + ": its last lines say why")


def missing(packages):
    return [package for package in packages if package.split("==")[0] not in here]


if "fastvocab" in here:
    pip(*missing(WITH))
elif source:
    # the torch that is here stays: Colab's fits the driver of its GPU
    kept = [f"{name}=={here[name]}" for name in ("torch", "torchvision", "torchaudio") if name in here]
    pip(source, *kept, *missing(WITH))
else:
    raise RuntimeError("set SOURCE in this cell to where fastvocab comes from, and run it again")
pip(*(["--no-deps", *missing(ALONE)] if missing(ALONE) else []))
importlib.invalidate_caches()
was = "was installed already" if "fastvocab" in here else f"was installed from {source}"
print(f"fastvocab {importlib.metadata.version('fastvocab')} {was}")
