"""Training on merged sets, from the source files to the weights."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipelines.conversion.report import merged_table
from pipelines.params import MergedSet
from pipelines.paths import MERGED
from pipelines.sources.archives import write_archive
from pipelines.sources.deletions import Deletions
from pipelines.sources.schema import Source, SourceError
from pipelines.stages.convert import convert
from pipelines.stages.download import download
from pipelines.stages.train import training_data
from rtmo.data.config import AugmentConfig
from rtmo.data.dataset import TrainingSet
from rtmo.data.loader import BatchLoader
from rtmo.data.mixture import MergedStore
from rtmo.fetch import Patience
from rtmo.formats.coco import write_coco
from rtmo.formats.records import FormatError
from rtmo.losses.config import LossConfig
from rtmo.losses.criterion import Criterion
from rtmo.model import build_rtmo
from rtmo.model.config import ModelConfig
from rtmo.model.weights import load_model, read_metadata
from rtmo.run.recipe import Recipe
from rtmo.run.train import Surroundings, train
from rtmo.skeleton import COCO17, CROWDPOSE14, Skeleton
from rtmo.store import Store
from rtmo.training.checkpoint import open_checkpoints
from rtmo.training.config import OptimizerConfig, TrainConfig

FACE = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
IMAGES = {"embedded": {"train": 8, "val": 2}, "embedded-crowdpose": {"train": 12, "val": 1}}


def small_source(repository, name, **changes):
    content = json.loads((repository / f"sources/{name}.json").read_text()) | changes
    content["get"]["config"] |= {"num_images": IMAGES[name], "width": 128, "height": 96}
    return Source.model_validate_json(json.dumps(content))


@pytest.fixture(scope="module")
def processed(repository, tmp_path_factory):
    """The embedded dataset (17 keypoints) merged with its CrowdPose variant (14), converted."""
    folder = tmp_path_factory.mktemp("merged")
    main, other = (small_source(repository, name) for name in IMAGES)
    for source, raw in ((main, folder / "raw"), (other, folder / "raw" / MERGED / other.dataset)):
        raw.mkdir(parents=True)
        download(source, raw, root=folder, downloads=folder / "downloads", patience=Patience())
    out = folder / "processed"
    out.mkdir()
    convert(main, folder / "raw", out, gate_fraction=0.2, merged=[other])
    return out


def test_a_merged_set_is_stored_with_the_keypoints_of_the_main_one(processed, repository):
    store = Store.open(processed / MERGED / "embedded-crowdpose")
    assert store.skeleton == COCO17
    assert store.meta.unannotated == FACE
    assert store.is_annotated.tolist() == [0] * 5 + [1] * 12
    assert not store.column("keypoints")[:, :5].any()
    assert (store.column("keypoints")[:, 5:, 2] > 0).any(axis=0).all()
    main = Store.open(processed / "train")
    assert main.meta.unannotated == ()
    assert main.is_annotated.all()

    assert json.loads((processed / MERGED / "sets.json").read_text()) == ["embedded-crowdpose"]
    report = json.loads((processed / "report.json").read_text())
    merged = report["merged"]["embedded-crowdpose"]
    assert (merged["format"], merged["skeleton"]) == ("crowdpose", "crowdpose14")
    assert merged["licence"]["name"] == "Apache-2.0"
    assert merged["train"]["pictures"] == len(store) == 12


def test_deleted_pictures_of_a_merged_set_are_left_out(processed, tmp_path, repository):
    main, other = (small_source(repository, name) for name in IMAGES)
    whole = Store.open(processed / MERGED / other.dataset).image_ids.tolist()
    out = tmp_path / "processed"
    out.mkdir()
    deletions = {other.dataset: Deletions(dataset=other.dataset, images={"train": (whole[3],)})}
    raw = processed.parent / "raw"
    convert(main, raw, out, gate_fraction=0.2, merged=[other], deletions=deletions)
    left = Store.open(out / MERGED / other.dataset).image_ids.tolist()
    assert left == [image for image in whole if image != whole[3]]
    assert (out / "train/image_ids.npy").read_bytes() == (
        processed / "train/image_ids.npy"
    ).read_bytes()


def test_keypoints_go_to_the_joint_of_their_name(processed, tmp_path, repository):
    """CrowdPose's shoulders to ankles are COCO's keypoints 5 to 16, in order; head and neck go."""
    source = small_source(repository, "embedded-crowdpose")
    raw = tmp_path / "raw"
    raw.mkdir()
    download(source, raw, root=tmp_path, downloads=tmp_path, patience=Patience())
    people = {
        person["id"]: np.reshape(person["keypoints"], (14, 3))
        for person in json.loads((raw / "crowdpose_trainval.json").read_text())["annotations"]
    }
    store = Store.open(processed / MERGED / "embedded-crowdpose")
    ids = store.column("annotation_ids").tolist()
    assert len(ids) == len(people)
    for row, annotation_id in enumerate(ids):
        mapped = store.column("keypoints")[row]
        np.testing.assert_array_equal(mapped[5:], people[annotation_id][:12])


def batch_of(processed, *, only_merged):
    main, other = (
        Store.open(processed / name) for name in ("train", f"{MERGED}/embedded-crowdpose")
    )
    dataset = TrainingSet(main, 96, AugmentConfig(), 0, [MergedStore(other, 1.0, 1)])
    loader = BatchLoader(dataset, micro_batch=dataset.num_samples(0), workers=0, stall_s=60)
    batch = next(loader.epoch(0, "letterbox"))
    rows = [name.startswith("embedded-crowdpose/") == only_merged for name in batch.image_names]
    chosen = torch.tensor(rows).nonzero()[:, 0]
    targets = replace(
        batch.targets,
        **{name: getattr(batch.targets, name)[chosen] for name in TARGETS},
        ignore_mask=None,
    )
    return batch.images[chosen].float(), targets


TARGETS = ("boxes_xyxy", "keypoints_xy", "is_labelled", "is_annotated", "areas", "is_person")


def visibility_gradients(images, targets):
    """Summed over both levels: how much each keypoint's visibility bias learns (17,)."""
    torch.manual_seed(0)
    model = build_rtmo("t").train()
    Criterion(COCO17)(model(images), targets, model.dcc, LossConfig()).total.backward()
    return sum(level.out_visibility.bias.grad.abs() for level in model.head.levels)


def test_joints_that_a_set_never_annotates_teach_no_visibility(processed):
    images, targets = batch_of(processed, only_merged=True)
    learnt = visibility_gradients(images, targets)
    assert not learnt[:5].any()
    assert (learnt[5:] > 0).all()
    # Without the mask they would teach that faces are never visible.
    forgotten = replace(targets, is_annotated=torch.ones_like(targets.is_annotated))
    assert (visibility_gradients(images, forgotten) > 0).all()
    # The main set annotates them, and learns that many are there and some are not.
    assert (visibility_gradients(*batch_of(processed, only_merged=False)) > 0).all()


def test_a_few_steps_on_both_sets_end_in_weights_that_name_both(processed, tmp_path):
    recipe = Recipe(
        model=ModelConfig(size="t", input_size=96),
        augment=AugmentConfig(),
        train=TrainConfig(
            epochs=2,
            micro_batch=3,
            global_batch=3,
            cpu_threads=1,
            device="cpu",
            optimizer=OptimizerConfig(lr=1e-3, warmup_epochs=1, clip_norm=1.0),
            validate_every_epochs=2,
            checkpoint_every_steps=100,
        ),
        stage_hash="0123abcd",
    )
    other = MergedSet(dataset="embedded-crowdpose", sampling_factor=0.5, until_epoch=1)
    with open_checkpoints(tmp_path / "checkpoints") as checkpoints:
        surroundings = Surroundings(checkpoints, (), lambda: False)
        result = train(training_data(processed, (other,)), tmp_path / "out", recipe, surroundings)
    assert [row["step"] for row in result.history] == [0, 4, 6]  # 6 + 6 pictures, then 6
    assert load_model(tmp_path / "out/weights.safetensors").skeleton == COCO17
    metadata = read_metadata(tmp_path / "out/weights.safetensors")
    assert metadata["dataset"] == "embedded+embedded-crowdpose"
    assert json.loads(metadata["licence"])["name"] == "Apache-2.0"
    card = json.loads((tmp_path / "out/model_card.json").read_text())
    (merged,) = card["merged"]
    assert merged["dataset"] == "embedded-crowdpose"
    assert merged["unannotated"] == list(FACE)
    assert (merged["sampling_factor"], merged["training_images"]) == (0.5, 12)


@pytest.fixture
def two_sets(tmp_path, repository, picture_file, random_records):
    """Sources and raw data of a main set and a merged one: `two_sets(skeleton, same_pictures)`."""

    def make(skeleton=COCO17, same_pictures=()):
        content = json.loads((repository / "sources/coco-sample.json").read_text())
        other = content | {"dataset": "other", "skeleton": skeleton.model_dump()}
        sources = [Source.model_validate_json(json.dumps(one)) for one in (content, other)]
        folders = (tmp_path / "raw", tmp_path / "raw" / MERGED / "other")
        for source, folder in zip(sources, folders, strict=True):
            folder.mkdir(parents=True)
            documents = []
            for split in ("train", "val"):
                seed = 1 + len(split) + 10 * (source.dataset == "other")
                records = random_records(12, source.keypoints, seed=seed)
                pictures = []
                for record in records:
                    same = record.id in same_pictures
                    own = (record.height, record.width, record.id + 1000 * seed)
                    content = picture_file(*((70, 70, record.id) if same else own))
                    pictures.append((f"{split}2017/{record.file_name}", content))
                write_archive(folder / f"{split}2017.zip", pictures)
                path = f"annotations/person_keypoints_{split}2017.json"
                document = json.dumps(write_coco(records, source.keypoints))
                documents.append((path, document.encode()))
            write_archive(folder / "annotations_trainval2017.zip", documents)
        out = tmp_path / "out"
        out.mkdir()
        return *sources, folders[0], out

    return make


def test_pictures_of_val_and_gate_are_not_trained_on_through_a_merged_set(two_sets):
    main, other, raw, out = two_sets(same_pictures=(11, 21, 31))
    report = convert(main, raw, out, gate_fraction=0.2, merged=[other])
    # Pictures 11, 21 and 31 have the same bytes in every split of both sets.
    assert report.splits["train"].problems["train_image_held_out"].count == 3
    assert report.merged["other"].train.problems["train_image_held_out"].count == 3
    stores = [Store.open(out / name) for name in ("val", "gate", f"{MERGED}/other")]
    *held_out, merged = (
        {store.image_bytes(index).tobytes() for index in range(len(store))} for store in stores
    )
    assert merged.isdisjoint(set.union(*held_out))
    assert len(merged) == 9


def test_a_set_without_a_common_joint_is_refused(two_sets):
    hand = Skeleton(
        name="hand", keypoints=("palm", "thumb"), flip_pairs=(), limbs=(), sigmas=(0.1, 0.1)
    )
    main, other, raw, out = two_sets(hand)
    with pytest.raises(FormatError, match="'hand' and 'coco17' have no keypoint name in common"):
        convert(main, raw, out, gate_fraction=0.2, merged=[other])


def test_a_set_without_training_pictures_is_refused(two_sets):
    main, other, raw, out = two_sets(CROWDPOSE14)
    evaluated = other.model_copy(update={"splits": {"val": other.splits["val"]}})
    with pytest.raises(SourceError, match=r"sources/other\.json has no training pictures.*val"):
        convert(main, raw, out, gate_fraction=0.2, merged=[evaluated])


def test_the_table_of_merged_sets_has_a_row_for_each(two_sets):
    main, other, raw, out = two_sets(CROWDPOSE14)
    table = merged_table(convert(main, raw, out, gate_fraction=0.2, merged=[other]))
    assert table.row_count == 1
    assert list(table.columns[-1].cells) == [", ".join(FACE)]
