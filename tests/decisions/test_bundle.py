"""A bundle is verified to the last byte before anything of it is parsed."""

import shutil

import models
import numpy as np
import pytest

from decisions import bundle
from lakehouse import settings as conf
from lakehouse.errors import BundleRefused
from lakehouse.keys import write_private
from lakehouse.signing import create, trust


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    return folder, models.stored(folder, folder / "scratch", conf.resolve(conf.load().keys.folder))


def trusted():
    return trust(conf.resolve(conf.load().keys.folder))


def test_a_good_bundle_scores(store):
    folder, digest = store
    model = bundle.load(folder, digest, trusted())
    scores = model.scores(models.vectors(3, 100)[0])
    assert ((scores.ensemble >= 0) & (scores.ensemble <= 1)).all()
    assert (np.rint(scores.ensemble * 1e6) == scores.ensemble * 1e6).all() or np.allclose(
        np.rint(scores.ensemble * 1e6) / 1e6, scores.ensemble, atol=0
    )
    both = 0.7 * scores.supervised + 0.3 * scores.isolation_forest
    assert np.abs(scores.ensemble - both).max() < 2e-6


@pytest.mark.parametrize("name", [bundle.MANIFEST, bundle.SIGNATURE, bundle.XGBOOST, bundle.ISOLATION])
def test_one_altered_byte_is_refused(store, tmp_path, seed, name):
    folder, digest = store
    raw = (folder / digest / name).read_bytes()
    random = np.random.default_rng(seed)
    for place in random.integers(0, len(raw), 25).tolist():
        copy = tmp_path / str(place)
        shutil.copytree(folder / digest, copy / digest)
        altered = bytearray(raw)
        altered[place] ^= 1 << int(random.integers(0, 8))
        (copy / digest / name).write_bytes(bytes(altered))
        with pytest.raises(BundleRefused):
            bundle.load(copy, digest, trusted())
        shutil.rmtree(copy)


def test_what_happens_to_the_files_of_a_model_that_was_loaded_changes_no_score(store, tmp_path):
    folder, digest = store
    shutil.copytree(folder / digest, tmp_path / digest)
    model, vectors = bundle.load(tmp_path, digest, trusted()), models.vectors(3, 100)[0]
    before = model.scores(vectors).ensemble
    for name in (bundle.XGBOOST, bundle.ISOLATION):
        path = tmp_path / digest / name
        with path.open("r+b") as file:
            file.write(bytes(path.stat().st_size))
    assert model.scores(vectors).ensemble.tolist() == before.tolist()
    with pytest.raises(BundleRefused, match="altered"):
        bundle.verified_files(tmp_path, digest, model.manifest)


@pytest.mark.parametrize("name", [bundle.MANIFEST, bundle.SIGNATURE, bundle.XGBOOST, bundle.ISOLATION])
def test_a_missing_file_is_refused(store, tmp_path, name):
    folder, digest = store
    shutil.copytree(folder / digest, tmp_path / digest)
    (tmp_path / digest / name).unlink()
    with pytest.raises(BundleRefused, match="missing"):
        bundle.load(tmp_path, digest, trusted())


def test_a_signature_by_somebody_unknown_is_refused(store, tmp_path):
    folder, digest = store
    create(tmp_path, ("author",), write_private)
    with pytest.raises(BundleRefused, match="does not verify"):
        bundle.load(folder, digest, trust(tmp_path))


def test_writing_a_bundle_again_gives_the_same_digest(store, tmp_path):
    _, digest = store
    assert models.stored(tmp_path, tmp_path / "scratch", conf.resolve(conf.load().keys.folder)) == digest
