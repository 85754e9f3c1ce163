"""`dualstream train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dualstream.engine.train.fit import TrainResult


def train(
    data: Annotated[
        Path | None, typer.Argument(help="Folder that `dualstream prepare` wrote.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Changes of the recipe: section.key=value ...")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Name of a shipped recipe, or a YAML file.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to create.")] = None,
    flow: Annotated[Path | None, typer.Option(help="Flow store.  [default: DATA/flow]")] = None,
    backward_flow: Annotated[
        Path | None,
        typer.Option(help="Store of backward flow, for bi-directional stacking."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Batches an epoch is cut to, for trials.", min=1)
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Run folder to go on with; takes no other argument.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train one stream by a recipe, or go on with a run that was stopped."""
    from dualstream.errors import InputError

    if resume is not None:
        if data or recipe or out or overrides or flow or backward_flow or limit:
            raise InputError("--resume takes its recipe and data from the run; give nothing else.")
        from dualstream.engine.train import fit as engine

        with RunBar(resume) as bar:
            result = engine.resume(resume, listener=bar)
    else:
        if data is None or recipe is None or out is None:
            raise InputError(
                "Give the data folder, --recipe and --out, for instance: "
                "dualstream train work/jhmdb --recipe tsn_rgb --out runs/rgb"
            )
        from dualstream.engine.recipe import load_recipe

        resolved = load_recipe(recipe, overrides or ())  # before torch, which loads for seconds
        from dualstream.engine.train import fit as engine

        with RunBar(out) as bar:
            result = engine.train(
                resolved,
                data,
                out,
                flow=flow,
                backward_flow=backward_flow,
                limit=limit,
                listener=bar,
            )
    _print(result, json=json)


class RunBar:
    """Progress of a run on stderr, and how to go on when it is interrupted."""

    def __init__(self, run: Path, *, verb: str = "train") -> None:
        self._run = run
        self._verb = verb

    def __enter__(self) -> RunBar:
        from dualstream.cli.output import progress_bar

        self._progress = progress_bar("batches")
        self._task = self._progress.add_task(self._verb, total=None)
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._progress.live.is_started:
            self._progress.stop()
        if kind is KeyboardInterrupt:
            from dualstream.cli.output import stderr

            advice = f"Go on with: dualstream {self._verb} --resume {self._run}"
            stderr().print(advice, soft_wrap=True, markup=False)

    def __call__(self, progress: object) -> None:
        from dualstream.cli.output import percent
        from dualstream.engine.train.run_folder import TrainProgress

        assert isinstance(progress, TrainProgress)
        self._progress.start()  # not above an error that comes before
        if progress.phase == "frozen stages":
            self._progress.update(
                self._task,
                description="frozen stages, videos",
                completed=progress.batch,
                total=progress.batches,
            )
            return
        text = f"epoch {progress.epoch + 1}/{progress.epochs}"
        if progress.train_loss is not None:
            text += f"  loss {progress.train_loss:.3f}"
        if progress.held_out_top1 is not None:
            text += f"  held out {percent(progress.held_out_top1)}%"
        self._progress.update(
            self._task,
            description=text,
            completed=progress.epoch * progress.batches + progress.batch,
            total=progress.epochs * progress.batches,
        )


def _print(result: TrainResult, *, json: bool) -> None:
    import dataclasses

    from dualstream.cli.output import percent, print_json, stdout

    if json:
        print_json(dataclasses.asdict(result))
        return
    console = stdout()
    console.print(
        f"{result.run}: {result.epochs} epochs in {result.seconds:.0f} s, "
        f"loss {result.train_loss:.3f}, training top-1 {percent(result.train_top1)}%",
        soft_wrap=True,
    )
    if result.held_out_top1 is not None:
        console.print(f"held-out top-1 {percent(result.held_out_top1)}%")
    console.print(f"Next: dualstream test {result.run}", soft_wrap=True)
