"""The command line as one types it: what it prints, what it writes, how it ends."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import netreduce as nr
from netreduce.cli.app import app, main
from netreduce.measures import latency
from netreduce.measures.deployment import predict_file

SRC = Path(__file__).parents[2] / "src"


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small classifier, its samples with labels, and a table of them."""
    folder = tmp_path_factory.mktemp("cli")
    teacher, x = normal(6, 3), normal(400, 6)
    y = (x @ teacher).argmax(axis=1)
    hidden = np.hstack([teacher, -teacher, normal(6, 4) / 9])
    back = np.vstack([np.eye(3), -np.eye(3), np.zeros((4, 3))]).astype(np.float32)
    network = nr.Network([nr.Dense(hidden, activation="relu"), nr.Dense(back)], (6,))
    nr.save(network, folder / "net.h5")
    nr.save(network, folder / "tensors.pth")
    np.savez(folder / "data.npz", x=x, y=y)
    np.savez(folder / "wide.npz", x=normal(60, 7), y=np.arange(60) % 3)
    header = ",".join([*(f"f{i}" for i in range(6)), "kind"])
    rows = [",".join([*map(str, row), f"c{label}"]) for row, label in zip(x, y, strict=True)]
    (folder / "table.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder


def run(capsys, *arguments):
    main([str(argument) for argument in arguments])
    return capsys.readouterr().out


def as_json(capsys, *arguments):
    return json.loads(run(capsys, *arguments, "--json"))


def refused(capsys, status, *arguments):
    """The one line on stderr of a command that ends with that status."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert ended.value.code == status
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1, message
    return message


def test_show(folder, capsys):
    shown = run(capsys, "show", folder / "net.h5")
    assert "dense_1" in shown
    assert "7 neurons or channels can go" not in shown
    found = as_json(capsys, "show", folder / "net.h5")
    assert [layer["parameters"] for layer in found["layers"]] == [70, 33]
    assert found["cost"]["macs"] == 90
    assert "10 neurons" in found["techniques"]["select, structured"]


def test_show_of_tensors_needs_their_architecture(folder, capsys):
    assert "architecture" in refused(capsys, 1, "show", folder / "tensors.pth")
    shown = as_json(capsys, "show", folder / "tensors.pth", "--architecture", "mlp:10")
    assert len(shown["layers"]) == 2


@pytest.mark.parametrize("data", ["data.npz", "table.csv"])
def test_evaluate(folder, capsys, data):
    options = ["--label", "kind"] if data == "table.csv" else []
    found = as_json(capsys, "evaluate", folder / "net.h5", "--data", folder / data, *options)
    assert found["accuracy"] == 1.0
    shown = run(capsys, "evaluate", folder / "net.h5", "--data", folder / data, *options)
    assert "accuracy" in shown


def test_reduce_writes_what_the_library_makes(folder, capsys, tmp_path):
    chain = "nnrelief = 0.95 / gpfq=4 / lump"
    out = tmp_path / "small.h5"
    arguments = ["reduce", folder / "net.h5", "--data", folder / "data.npz", "--chain", chain]
    row = as_json(capsys, *arguments, "-o", out)
    assert row["chain"] == "nnrelief-fraction=0.95/gpfq-bits=4/lump-tolerance=0"
    assert row["accuracy"] > 0.9
    assert row["bytes"] < row["bytes_of_original"]
    assert nr.load(out).layers[-1].quantization.bits == 4
    assert "exists: --force writes over it" in refused(capsys, 1, *arguments, "-o", out)
    run(capsys, *arguments, "-o", out, "--force")


@pytest.mark.parametrize("suffix", [".h5", ".keras", ".onnx", ".pth"])
def test_quantize_into_every_format(folder, capsys, tmp_path, suffix):
    out = tmp_path / f"small{suffix}"
    arguments = ["quantize", folder / "net.h5", "--data", folder / "data.npz", "--bits", "2"]
    row = as_json(capsys, *arguments, "-o", out)
    assert row["chain"] == "gpfq-bits=2"
    assert out.stat().st_size > 0


def test_convert_with_the_preprocessing_of_data(folder, capsys, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 6), dtype=np.uint8)
    np.savez(tmp_path / "pixels.npz", x=pixels, y=np.arange(60) % 3)
    arguments = ["--data", tmp_path / "pixels.npz"]
    run(capsys, "convert", folder / "net.h5", tmp_path / "net.onnx", *arguments)
    np.testing.assert_allclose(
        predict_file(tmp_path / "net.onnx", pixels),
        nr.load(folder / "net.h5").predict(pixels / 255),
        atol=1e-5,
    )
    message = refused(capsys, 1, "convert", folder / "net.h5", tmp_path / "a.keras", *arguments)
    assert "a.keras: only .onnx and .tflite hold the preprocessing of --data" in message
    arguments = ["--data", folder / "wide.npz"]
    message = refused(capsys, 1, "convert", folder / "net.h5", tmp_path / "a.onnx", *arguments)
    assert "7" in message
    assert not (tmp_path / "a.keras").exists() and not (tmp_path / "a.onnx").exists()


def test_convert_with_data_that_have_numbers_as_targets(folder, capsys, tmp_path):
    """--target is that of the data, not the file to write."""
    x = 9 * normal(60, 6)
    np.savez(tmp_path / "numbers.npz", x=x, y=x[:, :3])
    arguments = ["--data", tmp_path / "numbers.npz", "--target", "numbers", "--scale", "1/9"]
    run(capsys, "convert", folder / "net.h5", tmp_path / "net.onnx", *arguments)
    expected = nr.load(folder / "net.h5").predict(x / 9)
    np.testing.assert_allclose(predict_file(tmp_path / "net.onnx", x), expected, atol=1e-5)


@pytest.mark.parametrize("name", sorted(command for command in app if command[0] != "-"))
def test_no_two_options_of_a_command_have_one_name(name):
    arguments = app[name].assemble_argument_collection()
    names = [name for part in arguments for name in part.names if name.startswith("-")]
    assert len(names) == len(set(names))


def test_convert(folder, capsys, tmp_path):
    run(capsys, "convert", folder / "net.h5", tmp_path / "net.onnx")
    run(capsys, "convert", tmp_path / "net.onnx", tmp_path / "net.keras")
    x = normal(5, 6)
    np.testing.assert_allclose(
        nr.load(tmp_path / "net.keras").predict(x), nr.load(folder / "net.h5").predict(x), atol=1e-5
    )


def test_compare_with_times(folder, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(latency, "find_spec", lambda name: None)  # LiteRT's converter takes seconds
    chains = tmp_path / "chains.yaml"
    chains.write_text("- select=0.5\n- [{gpfq: 4}, {activations: 8}]\n")
    arguments = ["compare", folder / "net.h5", "--data", folder / "data.npz", "--chains", chains]
    found = as_json(capsys, *arguments, "--latency", "-o", tmp_path / "report")
    times = [f"{runtime} {batch} ms" for runtime in ("numpy", "onnxruntime") for batch in (1, 256)]
    for row in found["rows"]:
        in_floats = "activations" not in row["chain"]
        assert all((row[name] != "" and row[name] > 0) == in_floats for name in times)
    assert "onnxruntime 256 ms" in (tmp_path / "report/comparison.csv").read_text()


def test_compare_writes_a_table_a_figure_a_page_and_networks(folder, capsys, tmp_path):
    chains = tmp_path / "chains.yaml"
    chains.write_text("- [gpfq: 2]\n- select=0.5\n- [fold_batch_norm]\n- [lowrank: 0.5, gpfq: 4]\n")
    out = tmp_path / "report"
    arguments = ["compare", folder / "net.h5", "--data", folder / "data.npz", "--chains", chains]
    found = as_json(capsys, *arguments, "-o", out)
    assert [row["chain"] for row in found["rows"]] == [
        "analog",
        "gpfq-bits=2",
        "select-fraction=0.5",
        "fold_batch_norm",
        "lowrank-fraction=0.5/gpfq-bits=4",
    ]
    page = (out / "index.html").read_text()
    assert "<svg" in page
    assert "Selection 0.5" in page
    assert "http-equiv" not in page
    assert "src=" not in page
    assert {file.name for file in (out / "networks").iterdir()} == {
        "gpfq-bits=2.h5",
        "select-fraction=0.5.h5",
        "fold_batch_norm.h5",
        "lowrank-fraction=0.5__gpfq-bits=4.h5",
    }
    before = {file: file.read_bytes() for file in out.iterdir() if file.is_file()}
    run(capsys, *arguments, "-o", out, "--force")
    assert before == {file: file.read_bytes() for file in out.iterdir() if file.is_file()}


def test_certify(folder, capsys, tmp_path):
    small = tmp_path / "small.h5"
    data = ["--data", folder / "data.npz"]
    run(capsys, "quantize", folder / "net.h5", *data, "-o", small)
    ball = ["--around", folder / "data.npz", "--radius", "1/100", "--images", "10"]
    out = tmp_path / "certificate.json"
    row = as_json(capsys, "certify", folder / "net.h5", small, *ball, "-o", out)
    assert 0 < row["found"] <= row["bound"] + row["rounding"]
    assert 0 <= row["certified_same_class"] <= 1
    assert json.loads(out.read_text())
    whole = ["--low", "-1", "--high", "1", "--epsilon", "100"]
    assert as_json(capsys, "certify", folder / "net.h5", small, *whole)["holds_100"] == "yes"


def test_init_makes_a_configuration_that_the_workflow_takes(folder, capsys, tmp_path):
    import yaml

    given = ["--weights", folder / "net.h5", "--data", folder / "data.npz"]
    run(capsys, "init", tmp_path / "thesis", *given)
    config = yaml.safe_load((tmp_path / "thesis/config.yaml").read_text())
    assert config["models"]["network"]["dataset"] == "mine"
    assert Path(config["datasets"]["mine"]["train"]).samefile(folder / "data.npz")
    assert "exists: --force" in refused(capsys, 1, "init", tmp_path / "thesis")
    shown = run(capsys, "init", tmp_path / "my $thesis", *given).splitlines()[-1]
    assert shlex.split(shown)[4] == str((tmp_path / "my $thesis").resolve())


def test_test_samples_of_their_own_in_one_file(folder, tmp_path, capsys):
    with np.load(folder / "data.npz") as arrays:
        x, y = (arrays[name] for name in sorted(arrays.files)[:2])
    x, y = (x, y) if x.ndim > y.ndim else (y, x)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, x_test=x[:37], y_test=y[:37])
    found = as_json(capsys, "evaluate", folder / "net.h5", "--data", tmp_path / "d.npz")
    assert found["samples"] == 37


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        ("show none.h5", 1, "none.h5: no such file"),
        ("show", 2, "requires an argument"),
        ("reduc x", 2, "Unknown command"),
        ("show {net} --what", 2, "Unknown option"),
        ("reduce {net} --data {data} --chain gpfq=9 -o x.h5", 1, "bits must be"),
        ("reduce {net} --data {data} --chain shrink -o x.h5", 1, "unknown technique"),
        (
            "reduce {net} --data {data} --chain gpfq=3-bits=4 -o x.h5",
            1,
            "twice: gpfq=3-bits=4",
        ),
        ("reduce {net} --data {data} --chain gpfq-bits=3-bits=4 -o x.h5", 1, "given twice"),
        ("certify {net} {net} --low 1 --high 0", 1, "at input (0,)"),
        ("reduce {net} --data none.npz --chain lump -o x.h5", 1, "none.npz: no such file"),
        ("reduce {net} --data {data} --chain lump//lump -o x.h5", 1, "a step is empty: 'lump//"),
        ("quantize {net} --data {data} -o x.doc", 1, "x.doc: cannot write with the suffix"),
        ("quantize {net} --data {data} --bits 17 -o x.h5", 1, "bits must be"),
        ("convert {net} x.doc", 1, "x.doc: cannot write with the suffix '.doc'"),
        ("show {net} --architecture vgg:3", 1, "only mlp takes widths"),
        ("certify {net} {net} --radius 1/255", 1, "--around and --radius go together"),
        ("init x --dataset imagenet", 1, "--dataset must be one of"),
        ("init x --architecture nosuch", 1, "unknown architecture 'nosuch'"),
        ("init x --dataset digits --architecture lenet5", 1, "does not fit inputs of shape"),
        ("init x --weights {pth}", 1, "an architecture must say what they are"),
        ("init {data}", 1, "data.npz: a file, expected a folder"),
        ("init {data}/deep", 1, "deep: data.npz is a file, expected a folder"),
        ("evaluate {net} --data {data} --seed -1", 2, "--seed"),
        ("evaluate {net} --data {data} --size 3 3", 1, "size is for folders of images"),
        ("quantize {net} --data {data} --samples 0 -o x.h5", 2, "--samples"),
        ("reduce {net} --data {data} --chain lump --samples -5 -o x.h5", 2, "--samples"),
        ("reduce {net} --data {data} --chain lump -o {data}/x.h5", 1, "data.npz is a file"),
        ("convert {net} {data}/x.h5", 1, "data.npz is a file, expected a folder"),
        ("compare {net} --data {data} --chains none.yaml -o x", 1, "none.yaml: No such file"),
        ("compare {net} --data {data} -o {data} --force", 1, "a file, expected a folder"),
        ("certify {net} {net} -o .", 1, "a folder, expected a file"),
        ("certify {net} {net} --around {data} --radius 1 --images -3", 2, "--images"),
        ("certify {net} {net} --around {wide} --radius 1", 1, "shape (7,), so the network"),
    ],
)
def test_what_is_wrong_in_one_line(folder, capsys, tmp_path, monkeypatch, command, status, message):
    monkeypatch.chdir(tmp_path)
    files = {"net": "net.h5", "data": "data.npz", "pth": "tensors.pth", "wide": "wide.npz"}
    places = {name: folder / file for name, file in files.items()}
    words = [word.format(**places) for word in command.split()]
    assert message in refused(capsys, status, *words)
    assert not list(tmp_path.iterdir())


def test_data_that_do_not_fit(folder, capsys):
    message = refused(capsys, 1, "evaluate", folder / "net.h5", "--data", folder / "wide.npz")
    assert "(7,)" in message
    assert "(6,)" in message


def test_an_interrupted_command_leaves_nothing(folder, capsys, tmp_path, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("netreduce.cli.reducing.apply", interrupt)
    out = tmp_path / "small.h5"
    arguments = ["reduce", folder / "net.h5", "--data", folder / "data.npz", "--chain", "lump"]
    assert "interrupted" in refused(capsys, 130, *arguments, "-o", out)
    assert not out.exists()
    monkeypatch.setattr("netreduce.cli.comparing.apply", interrupt)
    arguments = [
        "compare",
        folder / "net.h5",
        "--data",
        folder / "data.npz",
        "-o",
        tmp_path / "all",
    ]
    assert "interrupted" in refused(capsys, 130, *arguments)
    assert not list(tmp_path.iterdir())


SLOWLY = """
import sys, time
import netreduce.cli.reducing as reducing
from netreduce.cli.app import main

def apply(*arguments, **options):
    print("begun", flush=True)
    time.sleep(60)

reducing.apply = apply
main(sys.argv[1:])
"""


def test_ctrl_c_ends_a_process_with_one_line_and_no_file(folder, tmp_path):
    out = tmp_path / "small.h5"
    words = ["reduce", "net.h5", "--data", "data.npz", "--chain", "lump", "-o", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOWLY, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(SRC), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell has what it starts in the background ignore the signal, and the tests with it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "error: interrupted\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_who_reads_the_output_may_stop(folder, options):
    code = "from netreduce.cli.app import main; main()"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", code, "show", "net.h5", *options],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(SRC)},
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def test_it_starts_without_the_library():
    code = "import netreduce.cli.app, sys; print(*{'numpy', 'onnx', 'torch'} & sys.modules.keys())"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(SRC)}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_the_package_runs_as_the_command():
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    command = [sys.executable, "-m", "netreduce", "--version"]
    assert subprocess.check_output(command, env=environment, text=True).strip() == nr.__version__


def test_help_and_version(capsys):
    for arguments in (["--help"], ["reduce", "--help"]):
        main(arguments)
        assert "netreduce" in capsys.readouterr().out
    main(["--version"])
    assert capsys.readouterr().out.strip() == nr.__version__
