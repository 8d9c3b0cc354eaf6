"""The pages of what is read and what is written: columns, reasons, oddities, transfer syntaxes, profiles, metrics."""

from __future__ import annotations

import re

import pyarrow as pa

from cxrgaze_ray import schemas, telemetry
from cxrgaze_ray.radiograph.pixel_data.codecs import codec_table
from cxrgaze_ray.radiograph.preprocess import profile_names
from cxrgaze_ray.radiograph.preprocess.profiles import find_profile
from cxrgaze_ray.schemas import ODDITY_HELP, REASON_HELP, status_of, tables
from docs.generate.text import code, prose, remarks, table

_TABLES = {
    "SUMMARY": "`summary.parquet`, the tables that `runs export` writes, and `results` in `runs query`.",
    "RESULT": "`results/*.parquet`, a file a shard, with maps.",
    "CAM_FIELDS": "Two more columns of `results/*.parquet`, in a run with `--cam`.",
    "STUDIES": "`studies.parquet`, and `studies` in `runs query`.",
    "PLAN": "`plan.parquet`: the files of a run. Its paths may name patients.",
    "MANIFEST": "What `cxrgaze archive list --out` writes. Its paths may name patients.",
    "STORE_SHARD": "The shards of a training store.",
    "REJECTS": "`rejects/` of a training store.",
}


_COLUMNS = """# Columns of tables

Every table is Parquet; a cell is null where nothing is known. What the columns of a run mean stands in
[what a row says](rows.md).
"""

_PLAIN = {pa.float32(): "float32", pa.float64(): "float64"}
"""Arrow calls them float and double."""


def columns() -> str:
    """Return the page of every table's columns."""
    told = remarks(tables)
    parts = [_COLUMNS]
    for name, what in _TABLES.items():
        fields = [(one.name, one.type) if isinstance(one, pa.Field) else one for one in getattr(schemas, name)]
        parts += [f"## {name.lower().replace('_', ' ').capitalize()}\n", f"{what}\n", f"{told.get(name, '')}\n"]
        parts.append(table(["column", "type"], [[code(column), _type(kind)] for column, kind in fields]))
    parts += ["## Facts of the input\n", f"{told['FACT_FIELDS']}\n", f"{told['ID_FIELDS']}\n"]
    parts += ["## Answers\n", "What a model does not predict is null in every row.\n"]
    answers = [[code(one), ", ".join(map(code, names))] for one, names in schemas.ANSWERS.items()]
    return "\n".join([*parts, table(["a model that predicts", "fills the columns"], answers)])


def _type(kind: pa.DataType) -> str:
    if pa.types.is_struct(kind):
        return "record of " + ", ".join(code(field.name) for field in kind)
    return "list of " + _type(kind.value_type) if pa.types.is_list(kind) else code(_PLAIN.get(kind, kind))


def reasons() -> str:
    """Return the page of the reason codes."""
    rows = [[code(one), str(status_of(one)), text] for one, text in REASON_HELP.items()]
    return f"""# Reasons

Why an input was skipped or failed: `reason_code` of a row, `reason` of an HTTP refusal. The list is closed, and
describes the file alone: a store that is down or credentials that expire stop the job, which resumes, and never
become a row.

{table(["reason", "status", "what it means, what to do"], rows)}"""


def oddities() -> str:
    """Return the page of the oddities."""
    rows = [[code(one), text] for one, text in ODDITY_HELP.items()]
    return f"""# Oddities

A row's `oddities` say what was odd about a file that could be read all the same: words of this list, with commas.
`cxrgaze archive look` draws them on the picture, the report counts them, and HTTP answers list them.

{table(["oddity", "what it means, what was done"], rows)}"""


def transfer_syntaxes() -> str:
    """Return the page of what DICOM files may be compressed with."""
    return f"""# Transfer syntaxes

What is decoded, and by which library; nothing else is. `cxrgaze doctor` shows what is installed. Lower resolutions of
`--decode reduced` come from Pillow.

No package of the default install is under the GPL. NVIDIA's libraries, which torch brings, are under NVIDIA's licence.

{codec_table()}"""


def profiles() -> str:
    """Return the page of the preprocessing profiles."""
    return f"""# Profiles

How bytes become a model image of 640 rows and 512 columns is part of the model: it is named and hashed in the bundle,
and a bundle refuses images of another profile. `cxrgaze archive look DIR --compare` shows them side by side.

{"".join(map(_profile, profile_names()))}{_COMPARED}"""


def _profile(name: str) -> str:
    profile = find_profile(name)
    told = re.sub(r"^`[\w-]+`(, the default)?: (\w)", lambda found: found[2].upper(), prose(type(profile).__doc__))
    reduced = "It takes `--decode reduced`." if profile.reducible else "`--decode reduced` is refused."
    return f"## {name}\n\n{told}\n\n{reduced}\n\n"


_COMPARED = """## How far they differ

Mean absolute difference of 255 on a real MONOCHROME1 radiograph (pydicom-data's RG1) and on 16 of nih-cxr: cxrgaze-v1
and released-v1 134 and 6, cxrgaze-v1 and mimic-jpg-v1 61 and 30, cxrgaze-v1 and voi-v1 8 and 0. Golden digests in
`tests/golden/` hold each profile to the bit on x86-64, the same for eleven lossless encodings of the same pixels.

`--decode reduced` decodes JPEG and JPEG 2000 at the lowest of 1/2, 1/4 and 1/8 that still fills the model image, and
whole where a file names a padding value or a Modality LUT. Profile cxrgaze-v1 moves by 0.6% of full scale on average
over 32 real JPEGs of 1024x1024 (3.0% on the worst: outer percentiles move when small bright marks are averaged away),
0.16% on a real JPEG 2000.
"""


def metrics() -> str:
    """Return the page of the metrics for Prometheus."""
    rows = [
        [
            code(one.name + "_total" * (one.kind == "counter")),
            one.kind,
            one.unit,
            ", ".join(code(label.name) for label in one.labels),
            one.description,
        ]
        for one in telemetry.TABLE
    ]
    values = [
        [code(label.name), ", ".join(code(one.name) for one in users), ", ".join(map(code, label.values))]
        for label, users in _users().items()
    ]
    return f"""# Metrics

Inside Ray, Prometheus finds them with `ray_` before the name; what `cxrgaze monitor` and `cxrgaze retrain` write or
show has the name alone. What to do when one of them rings: [alerts](../how-to/alerts.md).

{table(["metric", "kind", "unit", "labels", "what it is"], rows)}
## Labels

Closed lists, and never identifiers: a value that is not in its list is refused where it arises. HTTP status codes that
have no entry of their own go into their class.

{table(["label", "of", "values"], values)}"""


def _users() -> dict[telemetry.Label, list[telemetry.Metric]]:
    """Return the metrics that carry each label, labels in the table's order."""
    found: dict[telemetry.Label, list[telemetry.Metric]] = {}
    for one in telemetry.TABLE:
        for label in one.labels:
            found.setdefault(label, []).append(one)
    return found
