"""One self-contained HTML page about one run: no scripts, nothing loaded, equal bytes for equal values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from markupsafe import Markup

from thinkrec_core.config.reflections import TeacherConfig
from thinkrec_core.report import champion_tables, data_section, expert_tables, reflections, tables, words
from thinkrec_core.report.licences import licences, limits
from thinkrec_core.report.templates import STYLE, template_environment
from thinkrec_core.report.values import ReportValues, Training

TEMPLATE = "report.html.j2"
PARTS = (STYLE, data_section.TEMPLATE, reflections.SECTION, "experts.html.j2", champion_tables.TEMPLATE)
"""Templates that it includes."""
TRAINING_FACTS = ("best_step", "best_score", "select_by", "steps", "train_rows", "reasoning_rows", "truncation_rate")
"""Facts of a training that the page shows, where present."""


def render_report(values: ReportValues) -> str:
    """The whole page as text.

    Every text of a run (titles, traces, explanations) passes the autoescape of jinja2; only the SVG drawn here is
    markup. Parts without values are left out or say that there is nothing.
    """
    environment = template_environment()
    environment.globals.update(words=words, tables=tables, expert_tables=expert_tables, champion_tables=champion_tables)
    return environment.get_template(TEMPLATE).render(**_page(values))


def _page(values: ReportValues) -> dict[str, Any]:
    from thinkrec_core.report import figures  # matplotlib: a run that finds its report in the store need not load it

    evaluation, config = values.evaluation, values.config
    general = [values.general] if values.general else []
    experts = list(values.experts)
    return {
        "values": values,
        "config": config,
        "evaluation": evaluation,
        "headline": words.headline(evaluation),
        "addition": words.addition(evaluation),
        "protocol": _protocol(config, evaluation),
        "figures": {
            name: Markup(svg)
            for name, svg in {
                "auc": figures.ladder_figure(evaluation, "auc"),
                "uauc": figures.ladder_figure(evaluation, "uauc"),
                "general_loss": figures.loss_figure("general", general),
                "general_valid": figures.valid_figure("general", general),
                "expert_loss": figures.loss_figure("experts", experts),
                "expert_valid": figures.valid_figure("experts", experts),
                "map": figures.map_figure(values.clusters),
                "tsne": figures.map_figure(values.clusters, tsne=True),
                "gates": figures.gate_figure(values.clusters),
                "history": data_section.history_figure(values.data),
                "entropy": figures.entropy_figure(values.clusters),
            }.items()
            if svg
        },
        "taught": reflections.taught(values.reflections, TeacherConfig.model_validate(config["teacher"])),
        "traces": values.traces,
        "trainings": [_training(training) for training in [*general, *experts]],
        "other_titles": [title for _, title in tables.OTHER_FIGURES],
        "data_section": data_section.data_section(values.data),
        "data_template": data_section.TEMPLATE,
        "data_titles": data_section.SPLIT_TITLES,
        "routes": _routes(values.clusters),
        "limits": limits(config, evaluation),
        "licences": licences(config),
        "config_yaml": yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=100),
    }


def _protocol(config: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[tuple[str, str]]:
    data = config["data"]
    histories = {
        "liked": "earlier liked items only",
        "labelled": "all earlier items with their labels",
    }
    split = {
        "per_user": "each user's last rows by time",
        "global": "one time line for all users",
        "given": "as given by the source",
        "rolling": "days that end with the newest row",
    }
    rows, positives = evaluation["rows"], evaluation["positives"]
    return [
        ("Data", str(data["source"])),
        ("Split", split.get(data["split"], data["split"])),
        (
            "Histories",
            f"{data['history']}: {histories.get(data['history'], '')}, {config['llm']['max_history']} at most",
        ),
        ("Test rows", f"{rows:,}, of which {positives:,} liked ({positives / rows:.1%})"),
        ("Test users", f"{evaluation['users']:,}; {evaluation['users_uauc']:,} count for UAUC"),
        (
            "Warm and cold",
            f"{evaluation['warm_rows']:,} rows with user and item in train, {evaluation['cold_rows']:,} without",
        ),
        (
            "Interval",
            f"95% percentiles of {evaluation['resamples']:,} resamples of whole users, the same for every rung",
        ),
        ("Seed", str(config["seed"])),
        ("Base model", str(config["llm"]["model"])),
        ("Teacher", str(config["teacher"]["model"])),
        ("Encoder", f"{config['encoder']['kind']}, {config['encoder']['embedding_size']} dimensions"),
    ]


def _training(training: Training) -> tuple[str, list[tuple[str, str]]]:
    known = {name: training.facts[name] for name in TRAINING_FACTS if name in training.facts}
    return training.name, tables.facts(known)


def _routes(clusters: Mapping[str, Any]) -> list[tuple[str, int, float]]:
    routes = clusters.get("routes") or {}
    total = sum(routes.values())
    return [(name, users, 100 * users / total) for name, users in routes.items()] if total else []
