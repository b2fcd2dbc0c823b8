"""The usual way to serve a model, to be measured beside ours: FastAPI, pandas and an MLflow pyfunc on the same booster.

`python -m benchmarks.plain FOLDER PORT` answers `POST /v1/decisions`: it takes the vector that somebody else computed
from a pandas frame, has the pyfunc predict, and compares with one threshold. It is spared everything else that a
decision is: log and record, velocity of this payment, isolation forest, calibration, rules, reasons.
"""

import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import mlflow.xgboost
import numpy as np
import numpy.typing as npt
import pandas as pd
import uvicorn
import xgboost as xgb
from fastapi import FastAPI
from mlflow.models import infer_signature

from decisions.bundle import XGBOOST
from features.catalogue import NAMES
from lakehouse import settings as conf
from lakehouse.settings import Settings

MODEL, VECTORS = "model", "vectors.npy"
DECLINE = 0.9


def prepared(settings: Settings, digest: str, vectors: npt.NDArray[np.float32], folder: Path) -> None:
    """Put the booster of a bundle as an MLflow model, and vectors, into a folder."""
    booster = xgb.Booster()
    booster.load_model(conf.resolve(settings.models.store) / digest / XGBOOST)
    booster.feature_names = list(NAMES)
    frame = pd.DataFrame(vectors[:50], columns=list(NAMES))
    signature = infer_signature(frame, booster.predict(xgb.DMatrix(frame)))
    mlflow.xgboost.save_model(booster, folder / MODEL, signature=signature)
    np.save(folder / VECTORS, vectors)


def app(folder: Path) -> FastAPI:
    """The endpoint over what `prepared` left."""
    model = mlflow.pyfunc.load_model(str(folder / MODEL))
    known = pd.DataFrame(np.load(folder / VECTORS), columns=list(NAMES))
    made = FastAPI()

    @made.post("/v1/decisions")
    def decide(payment: dict[str, Any]) -> dict[str, Any]:
        row = zlib.crc32(payment["card_number"].encode()) % len(known)
        score = float(model.predict(known.iloc[[row]])[0])
        return {"outcome": "decline" if score > DECLINE else "approve", "score": score, "degraded": False}

    return made


def main(argv: Sequence[str]) -> None:
    """Serve until ended."""
    folder, port = argv
    uvicorn.run(app(Path(folder)), host="127.0.0.1", port=int(port), log_level="warning")


if __name__ == "__main__":
    main(sys.argv[1:])
