"""Misuse of the trainer: one line that names what is wrong and the nearest valid name, exit code 2, nothing written."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from nano import NANO

from mmmask.train import main
from shard_tools.arguments import run

IMAGE = "modalities.image"


@pytest.fixture
def refused(built: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A function that runs the trainer on pictures, which must refuse: exit code 2, one line that it returns."""

    def try_it(*flags: str, config: Path = NANO, data: Path = built["image"], output: Path = tmp_path / "run") -> str:
        with pytest.raises(SystemExit) as end:
            run("mmmask.train", main, ["--config", str(config), "--data", str(data), "--output", str(output), *flags])
        told = capsys.readouterr().err
        assert end.value.code == 2, told
        assert told.startswith("mmmask.train: ") and told.count("\n") == 1, told
        assert not (tmp_path / "run").exists()
        return told

    return try_it


@pytest.mark.parametrize(
    "flags, words",
    [
        ("--optim.lrr 1e-3", "optim.lrr is unknown (did you mean lr?)"),
        ("--optim.lrr=1e-3", "optim.lrr is unknown (did you mean lr?)"),
        ("--stepss 3", "stepss is unknown (did you mean steps?)"),
        ("--model.encodr vit", "model.encodr is unknown (did you mean encoder?)"),
        ("--model.encoder vitt", "model.encoder: "),
        (f"--{IMAGE}.ratioo .5", f"{IMAGE}.ratioo is unknown (did you mean ratio?)"),
        (f"--{IMAGE}.view.sizee 32", f"{IMAGE}.view.sizee is unknown (did you mean size?)"),
        ("--modalities.imagee.ratio .5", "'imagee' (did you mean image?)"),
        ("--losses [{nam:latents}]", "losses"),
        ("--losses [{name: latent}]", "losses.0.name"),
        ("--losses [{name: latents}]", "needs teachers: [ema]"),
        ("--losses []", "losses"),
        ("--losses [", "losses"),
        ("--steps abc", "steps: "),
        ("--steps 2.5", "steps: "),
        ("--steps 0", "steps: "),
        ("--seed -1", "seed: "),
        ("--seed 99999999999999999999999", "seed: "),
        ("--optim 3", "optim: "),
        ("--optim.betas [0.9,1.5]", "optim.betas.1: "),
        ("--optim.lr nan", "optim.lr: "),
        ("--model.heads 5", "dim 48 is not a multiple of heads 5"),
        ("--modalities 3", "modalities: "),
        ("--modalities [image]", "--modalities=[image]: "),
        (f"--{IMAGE} 3", f"{IMAGE}: "),
        (f"--{IMAGE}.view 3", f"{IMAGE}.view"),
        (f"--{IMAGE}.ratio 1", f"{IMAGE}.ratio: "),
        (f"--{IMAGE}.masking motoin", f"{IMAGE}.masking: "),
        (f"--{IMAGE}.view.patch 7", f"{IMAGE}.view: size 32 is not a multiple of patch 7"),
        (f"--{IMAGE}.view.scale [0,1]", f"{IMAGE}.view.scale.0: "),
        ("--run.device gpu", "run.device: "),
        ("--optim.lr", "--optim.lr needs a value"),
        ("--seed ${nowhere}", "nowhere"),
    ],
)
def test_a_wrong_flag_is_named(refused, flags: str, words: str) -> None:
    assert words in refused(*flags.split(" ", 1))


@pytest.mark.parametrize(
    "text, words",
    [
        ("optim: {lrr: 1}", "optim.lrr is unknown (did you mean lr?)"),
        ("modalities: {imag: {ratio: .5}}", "'imag' (did you mean image?)"),
        ("modalities: {image: {view: {ptch: 8}}}", "view.ptch is unknown (did you mean patch?)"),
        ("modalities: {3: {}}", "'3'"),
        ("modalities: image", "modalities: "),
        ("- steps", "config"),
        ("steps", "config"),
        ("steps: [1, 2", "config"),
        ("steps: {a: 1}", "steps: "),
        ("a: *b", "config"),
        ("\x00", "config"),
    ],
)
def test_a_wrong_config_file_is_named(refused, tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(text)
    assert words in refused(config=path)


def test_an_unreadable_config_file_is_named(refused, tmp_path: Path) -> None:
    (tmp_path / "pixels.yaml").write_bytes(bytes(range(128, 256)))
    assert "nowhere.yaml does not exist" in refused(config=tmp_path / "nowhere.yaml")
    assert "pixels.yaml" in refused(config=tmp_path / "pixels.yaml")
    assert str(tmp_path) in refused(config=tmp_path)


@pytest.mark.parametrize(
    "name, flags, words",
    [
        ("lidar", "--modalities.lidar.view.cells [3,4,20]", "voxel x 8 is not a multiple of cells 3"),
        ("audio", "--modalities.audio.view.patch [16,24]", "mels 128"),
        ("audio", "--modalities.audio.view.frames 8", "frames 8"),
        ("video", "--modalities.video.view.frames 5", "frames 5 is not a multiple of tube 2"),
        ("table", "--modalities.table.view.rows 0", "modalities.table.view.rows: "),
    ],
)
def test_a_view_that_does_not_come_out_even_is_refused(
    refused, built: dict[str, Path], name: str, flags: str, words: str
) -> None:
    assert words in refused(*flags.split(), data=built[name])


def test_what_is_not_a_data_set_is_named(refused, tmp_path: Path, built: dict[str, Path]) -> None:
    assert "nowhere" in refused(data=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "no data set here" in refused(data=tmp_path / "empty")
    other = tmp_path / "other"
    shutil.copytree(built["image"], other)
    manifest = (other / "manifest.json").read_text()
    (other / "manifest.json").write_text(manifest.replace('"modality": "image"', '"modality": "imagery"'))
    assert "'imagery' (did you mean image?)" in refused(data=other)


def test_a_stray_word_is_named(refused) -> None:
    assert "unexpected argument '4'" in refused("--steps", "3", "4")


def test_missing_flags_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in ([], ["--data"], ["--output", "x"], ["--dta", "x", "--output", "y"]):
        with pytest.raises(SystemExit) as end:
            run("mmmask.train", main, argv)
        told = capsys.readouterr().err
        assert end.value.code == 2 and told.count("\n") == 1 and "--data" in told


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_that_is_not_this_run_is_left_alone(
    refused, tmp_path: Path, built: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    ours = tmp_path / "ours"
    flags = ["--config", str(NANO), "--data", str(built["image"]), "--output", str(ours), "--steps", "1"]
    main([*flags, "--run.held_out", "0"])
    capsys.readouterr()
    before = contents(ours)
    assert "optim.lr was 0.002 and is 0.001" in refused("--steps", "1", "--optim.lr", "1e-3", output=ours)
    assert "modalities.image.view.patch was 8 and is 16" in refused(
        "--steps", "1", "--modalities.image.view.patch", "16", output=ours
    )
    assert "modalities.audio" in refused("--steps", "1", output=ours, data=built["audio"])
    other = tmp_path / "other"
    shutil.copytree(built["image"], other)
    manifest = other / "manifest.json"
    mean = yaml.safe_load(manifest.read_text())["statistics"]["mean"][0]
    manifest.write_text(manifest.read_text().replace(str(mean), "0.125"))
    assert "other data sets" in refused("--steps", "1", output=ours, data=other)
    assert contents(ours) == before

    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("mine")
    assert "not a run of ours" in refused(output=theirs)
    assert "not a run of ours" in refused(output=theirs / "thesis.txt")
    assert "no run can be written" in refused(output=theirs / "thesis.txt" / "run")
    assert contents(theirs) == {"thesis.txt": b"mine"}


def test_a_manifest_without_statistics_is_named(
    built: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(built["image"], other)
    manifest = other / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"mean"', '"median"'))
    with pytest.raises(SystemExit) as end:
        run("mmmask.train", main, ["--data", str(other), "--output", str(tmp_path / "run")])
    assert end.value.code == 1 and "statistics do not hold 'mean'" in capsys.readouterr().err


def test_a_split_without_samples_is_no_data(built: dict[str, Path], tmp_path: Path, refused) -> None:
    other = tmp_path / "other"
    shutil.copytree(built["image"], other)
    manifest = yaml.safe_load((other / "manifest.json").read_text())
    manifest["shards"] = [shard for shard in manifest["shards"] if shard["split"] == "val"]
    manifest["splits"] = {"train": 0, "val": manifest["splits"]["val"]}
    (other / "manifest.json").write_text(json.dumps(manifest))
    assert "no training samples" in refused(data=other)
