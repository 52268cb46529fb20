"""Logs become rows, also those of runs that were killed and resumed; rows become a table, a CSV and a picture."""

import csv
import sys
from pathlib import Path

import plot_curves
import pytest

from mms_recipes import curves
from mms_recipes.curves import Row

# As real runs wrote them.
PRETRAINING = (
    "[2026-11-21 00:09:12,867][mms_recipes.runner][INFO] - run folder: outputs/demo_pretrain (new)\n"
    "[2026-11-21 00:09:13,393][mms_recipes.preflight][INFO] - 8 languages\n"
    "language       train     hours         dev     hours\n"
    "ben              592      0.33          31      0.02\n"
    "[2026-11-21 00:10:12,806][train_inner][INFO] - epoch 001:    160 / 168 loss=5.475, ntokens=1000.55, "
    "nsentences=30.7, prob_perplexity=106.395, code_perplexity=104.444, temp=1.999, loss_0=5.45, loss_1=0.025, "
    "minutes_left=0.2, accuracy=0.07016, wps=2561.4, ups=2.56, wpb=1000.5, bsz=30.7, num_updates=160, lr=0.0005, "
    "gnorm=0.404, clip=0, train_wall=8, wall=59\n"
    "[2026-11-21 00:10:15,098][train][INFO] - epoch 001 | loss 5.637 | ntokens 961.286 | nsentences 30.6369 | "
    "prob_perplexity 107.561 | code_perplexity 105.257 | temp 1.999 | loss_0 5.615 | loss_1 0.022 | minutes_left 0.2 | "
    "accuracy 0.05141 | wps 2669.3 | ups 2.77 | wpb 961.3 | bsz 30.6 | num_updates 168 | lr 0.0004 | gnorm 0.301 | "
    "clip 0 | train_wall 60 | wall 62\n"
    "[2026-11-21 00:10:26,543][train_inner][INFO] - epoch 002:     32 / 168 loss=5.391, ntokens=1001.7, "
    "nsentences=28.55, prob_perplexity=105.044, code_perplexity=102.732, temp=1.998, loss_0=5.365, loss_1=0.026, "
    "minutes_left=0, accuracy=0.07462, wps=2706.3, ups=2.7, wpb=1001.7, bsz=28.6, num_updates=200, lr=0, "
    "gnorm=0.424, clip=0, train_wall=7, wall=73\n"
    "[2026-11-21 00:10:27,447][dev][INFO] - epoch 002 | valid on 'dev' subset | loss 5.403 | ntokens 792.3 | "
    "nsentences 26 | prob_perplexity 101.729 | code_perplexity 98.797 | temp 1.998 | loss_0 5.378 | loss_1 0.025 | "
    "accuracy 0.08482 | wps 9548.4 | wpb 792.3 | bsz 26 | num_updates 200\n"
    "[2026-11-21 00:10:27,499][mms_recipes.runner][INFO] - done: outputs/demo_pretrain\n"
)
LSAH = (
    "[2026-11-21 00:15:59,044][train_inner][INFO] - epoch 001:     70 / 300 loss=20.617, letter_loss=0.794, "
    "blank_percent=62.7, nsentences=102, minutes_left=2.7, audio_per_second=437, wps=6076.5, ups=2.29, wpb=2648.8, "
    "bsz=102, num_updates=70, lr=0.002, gnorm=18.704, clip=100, train_wall=4, wall=48\n"
    "[2026-11-21 00:16:02,650][mms_recipes.tasks.finetuning][INFO] - fra REF une voix aiguë\n"
    "[2026-11-21 00:16:02,651][mms_recipes.tasks.finetuning][INFO] - dev CER: macro 14.67 over 8 languages\n"
    "[2026-11-21 00:16:02,667][mms_recipes.tasks.lsah][INFO] - adapters written for 8 of 8 languages\n"
    "[2026-11-21 00:16:02,667][dev][INFO] - epoch 001 | valid on 'dev' subset | loss 17.518 | letter_loss 0.685 | "
    "blank_percent 62.1 | nsentences 65 | cer 14.99 | wer 63.82 | audio_per_second 377 | wps 4900.2 | wpb 1662 | "
    "bsz 65 | num_updates 75\n"
    "[2026-11-21 00:16:37,441][dev][INFO] - epoch 001 | valid on 'dev' subset | loss 15.9 | letter_loss 0.62 | "
    "blank_percent 61.2 | nsentences 65 | cer 13.87 | wer 60.11 | audio_per_second 880 | wps 9000 | wpb 1662 | "
    "bsz 65 | num_updates 150 | best_cer 13.87\n"
)


def train(num_updates: float, loss: float, rest: str = ", lr=0.1") -> str:
    return (
        f"[2026-11-21 00:00:00,000][train_inner][INFO] - epoch 001:     50 / 426 "
        f"loss={loss:g}, num_updates={num_updates:g}{rest}\n"
    )


def dev(num_updates: int, cer: float, subset: str = "dev") -> str:
    return (
        f"[2026-11-21 00:00:00,000][{subset}][INFO] - epoch 001 | valid on '{subset}' subset | cer {cer:g} | "
        f"num_updates {num_updates}\n"
    )


def write_run(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "train.log").write_text(text, encoding="utf-8")
    return folder


def brief(text: str) -> list[tuple[str, int, float]]:
    """Split, update and first number of each row."""
    return [(row.split, row.num_updates, next(iter(row.metrics.values()))) for row in curves.parse(text.splitlines())]


def test_rows_of_a_pretraining_log(tmp_path: Path) -> None:
    rows = curves.read_run(write_run(tmp_path / "run", PRETRAINING))
    assert [(row.split, row.num_updates) for row in rows] == [("train", 160), ("train", 200), ("dev", 200)]
    assert rows[0].metrics == {
        "loss": 5.475, "ntokens": 1000.55, "nsentences": 30.7, "prob_perplexity": 106.395, "code_perplexity": 104.444,
        "temp": 1.999, "loss_0": 5.45, "loss_1": 0.025, "minutes_left": 0.2, "accuracy": 0.07016, "wps": 2561.4,
        "ups": 2.56, "wpb": 1000.5, "bsz": 30.7, "lr": 0.0005, "gnorm": 0.404, "clip": 0.0, "train_wall": 8.0,
        "wall": 59.0,
    }  # fmt: skip
    assert rows[2].metrics == {
        "loss": 5.403, "ntokens": 792.3, "nsentences": 26.0, "prob_perplexity": 101.729, "code_perplexity": 98.797,
        "temp": 1.998, "loss_0": 5.378, "loss_1": 0.025, "accuracy": 0.08482, "wps": 9548.4, "wpb": 792.3, "bsz": 26.0,
    }  # fmt: skip


def test_rows_of_an_lsah_log(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", LSAH)
    rows = curves.read_run(run)
    assert [(row.split, row.num_updates) for row in rows] == [("train", 70), ("dev", 75), ("dev", 150)]
    assert rows[0].metrics["audio_per_second"] == 437.0
    assert [row.metrics.get("cer") for row in rows] == [None, 14.99, 13.87]
    assert rows[2].metrics["best_cer"] == 13.87
    assert curves.read_run(run / "train.log") == rows


def test_the_later_of_two_rows_counts() -> None:
    log = train(50, 9) + dev(50, 90) + train(50, 7) + dev(50, 70)
    assert brief(log) == [("train", 50, 7.0), ("dev", 50, 70.0)]


def test_what_a_killed_run_had_done_after_its_last_checkpoint_is_left_out() -> None:
    """It was resumed from update 100: its rows at 150 and 160 belong to nothing, though no later row replaces them."""
    killed = train(50, 9) + train(100, 8) + dev(100, 80) + train(150, 7) + dev(160, 66)
    resumed = train(120, 6) + train(200, 5)
    assert brief(killed + resumed) == [
        ("train", 50, 9.0), ("train", 100, 8.0), ("dev", 100, 80.0), ("train", 120, 6.0), ("train", 200, 5.0)
    ]  # fmt: skip


def test_a_run_begun_anew_in_the_same_folder_replaces_the_first() -> None:
    assert brief(train(50, 9) + train(100, 8) + dev(100, 80) + train(50, 3)) == [("train", 50, 3.0)]


def test_half_a_line_is_left_out_and_the_line_that_follows_in_it_is_not() -> None:
    whole = train(100, 8)
    for end in range(1, whole.index("num_updates")):
        assert brief(train(50, 9) + whole[:end] + train(150, 7)) == [("train", 50, 9.0), ("train", 150, 7.0)]


def test_numbers_as_fairseq_prints_them() -> None:
    (row,) = curves.parse([train(1_234_567, 5, ", lr=1e-06, gnorm=inf, loss_1=nan, clip=n/a")])
    assert row.num_updates == 1_234_570  # six digits
    assert row.metrics["lr"] == 1e-6
    assert row.metrics["gnorm"] == float("inf")
    assert row.metrics["loss_1"] != row.metrics["loss_1"]
    assert "clip" not in row.metrics


def test_validation_subsets_have_their_own_split() -> None:
    log = train(50, 9) + dev(50, 60, "dev_other") + dev(50, 70)
    assert brief(log) == [("train", 50, 9.0), ("dev", 50, 70.0), ("dev_other", 50, 60.0)]
    assert curves.splits(curves.parse(log.splitlines())) == ["train", "dev", "dev_other"]


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"run.train\.log: no log; expected the folder of a run"):
        (tmp_path / "run").mkdir()
        curves.read_run(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="nowhere: no log"):
        curves.read_run(tmp_path / "nowhere")
    started = write_run(tmp_path / "started", PRETRAINING.split("[2026-11-21 00:10:12")[0])
    with pytest.raises(ValueError, match=r"train\.log: no line with the numbers of an update(.*)common\.log_interval"):
        curves.read_run(started)


def test_csv_holds_all_numbers_of_all_runs() -> None:
    runs = {name: curves.parse(log.splitlines()) for name, log in (("w2v, small", PRETRAINING), ("lsah", LSAH))}
    rows = list(csv.DictReader(curves.csv_text(runs).splitlines()))
    assert [(row["run"], row["split"], row["num_updates"]) for row in rows] == [
        ("w2v, small", "train", "160"), ("w2v, small", "train", "200"), ("w2v, small", "dev", "200"),
        ("lsah", "train", "70"), ("lsah", "dev", "75"), ("lsah", "dev", "150"),
    ]  # fmt: skip
    read = [{name: float(cell) for name, cell in list(row.items())[3:] if cell} for row in rows]
    assert read == [row.metrics for rows in runs.values() for row in rows]
    assert list(rows[0])[3:6] == ["loss", "loss_0", "loss_1"]


def test_summary_has_the_best_where_there_is_one() -> None:
    rows = [
        Row("train", 1, {"loss": float("nan"), "accuracy": 0.1, "lr": 0.1}),
        Row("train", 2, {"loss": 3.0, "accuracy": 0.4, "lr": 0.2}),
        Row("train", 3, {"loss": 5.0, "accuracy": 0.4, "lr": 0.3}),
        Row("train", 4_000, {"loss": 4.0, "accuracy": 0.2, "lr": 0.0}),
        Row("dev", 4_000, {"loss": 6.0}),
    ]
    assert curves.summary({"demo": rows}, ["loss", "accuracy", "lr"]).splitlines() == [
        "run   split  metric    first  best  at update  last",
        "----  -----  --------  -----  ----  ---------  ----",
        "demo  train  loss        nan     3          2     4",
        "demo  train  accuracy    0.1   0.4          2   0.2",
        "demo  train  lr          0.1     -          -     0",
        "demo  dev    loss          6     6      4,000     6",
    ]


# ---- tools/plot_curves.py


def test_one_command_makes_csv_and_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="no matplotlib (extra [plots]): the picture was NOT tested")
    run = write_run(tmp_path / "outputs" / "demo_lsah", LSAH)
    assert plot_curves.main([str(run)]) == 0
    header = (run / "curves.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header.startswith("run,split,num_updates,loss,letter_loss,cer,wer,")
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "demo_lsah  dev    cer" in capsys.readouterr().out
    assert {path.name for path in run.iterdir()} == {"train.log", "curves.csv", "curves.png"}


def test_runs_are_drawn_over_one_another() -> None:
    pytest.importorskip("matplotlib", reason="no matplotlib (extra [plots]): the picture was NOT tested")
    from matplotlib.figure import Figure

    logs = {"dense": train(50, 9) + dev(50, 90) + train(100, 8), "lsah": LSAH}
    runs = {name: curves.parse(log.splitlines()) for name, log in logs.items()}
    panel = Figure().subplots()
    handles = plot_curves.draw_metric(panel, runs, "loss")
    assert list(handles) == ["dense, train", "lsah, train", "lsah, dev"]
    assert [list(line.get_xdata()) for line in handles.values()] == [[50, 100], [70], [75, 150]]
    assert [list(line.get_ydata()) for line in handles.values()] == [[9.0, 8.0], [20.617], [17.518, 15.9]]
    colours = [line.get_color() for line in handles.values()]
    assert colours[0] != colours[1] == colours[2]
    assert [line.get_linestyle() for line in handles.values()] == ["-", "-", "--"]
    labels = (panel.get_title(), panel.get_xlabel(), panel.get_ylabel())
    assert labels == ("loss", "updates", "bits per masked frame or utterance")
    assert panel.get_xlim() == (0, pytest.approx(154.5))


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / place / "demo" / "shard_0", LSAH) for place in ("a", "b")]
    assert list(plot_curves.run_names(runs)) == ["a/demo/shard_0", "b/demo/shard_0"]
    with pytest.raises(ValueError, match="the same run was given twice"):
        plot_curves.run_names([runs[0], runs[0]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--metrics", "loss,acuracy"], "acuracy was not logged; there are loss, letter_loss, cer"),
        (["run", "--metrics", ","], "nothing was not logged"),
        (["run", "other"], "2 runs were given; say with --out"),
        (["nowhere"], "nowhere: no log"),
    ],
)
def test_mistakes_are_told(
    tmp_path: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("run", "other"):
        write_run(tmp_path / name, LSAH)
    monkeypatch.chdir(tmp_path)
    assert plot_curves.main(arguments) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("curves.*"))


def test_without_matplotlib_the_csv_is_written_and_the_extra_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    run = write_run(tmp_path / "run", LSAH)
    assert plot_curves.main([str(run)]) == 1
    assert "pip install '.[plots]'" in capsys.readouterr().err
    assert (run / "curves.csv").exists()
