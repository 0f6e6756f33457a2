"""Loss and accuracy over the epochs of the training."""

import style


def main() -> None:
    arguments = style.arguments(__doc__, ("history", "training history of one model (.csv)"))
    history = style.read(arguments.history)

    measures = {"loss": 1, "accuracy": 100}
    if "training_accuracy" not in history:
        del measures["accuracy"]
    figure, panels = style.panels(len(measures), 2, 1.95)
    for axes, (measure, factor) in zip(panels, measures.items(), strict=True):
        ends = []
        for index, split in enumerate(("training", "validation")):
            values = factor * history[f"{split}_{measure}"]
            look = style.series_style(index)
            axes.plot(history.epoch, values, **look | {"markersize": 3})
            ends.append((history.epoch.iloc[-1], values.iloc[-1], split, look["color"]))
        axes.set_xlabel("epoch")
        style.integer_axis(axes.xaxis)
        if measure == "loss":
            kind = "cross-entropy" if "accuracy" in measures else "mean squared error"
            axes.set_ylabel(f"loss ({kind})")
            axes.set_yscale("log")
            style.log_ticks(axes.yaxis)
        else:
            axes.set_ylabel("accuracy (%)")
            style.accuracy_axis(
                axes, 100 * history[["training_accuracy", "validation_accuracy"]].to_numpy().ravel()
            )
        style.label_lines(axes, ends)
    style.save(figure, arguments.output)


if __name__ == "__main__":
    style.run(main)
