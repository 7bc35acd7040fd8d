"""Write the shop of the example: items.csv and interactions.csv, from a seed.

Shoppers prefer a material and a use, which stand in the titles in words.

    python examples/own_catalogue/make_files.py
"""

from __future__ import annotations

import csv
import random
from pathlib import Path

FOLDER = Path(__file__).parent
KINDS = ["blanket", "mat", "bowl", "bottle", "bag", "cushion", "box", "hook", "tray"]
MATERIALS = ["cotton", "wool", "stainless steel", "wood"]
COLORS = ["red", "blue", "green", "grey"]
USES = ["travel", "kitchen", "sport", "sleep"]
USERS = ["baby", "adult", "dog"]
BRANDS = ["Acme", "Bolt", "Corvo", "Dune", "Elm"]
ABOUT = [
    "Easy to clean and made to last for years of daily use.",
    "Comes in a gift box; hand wash only, dries within hours.",
    "Weighs next to nothing, and packs into its own pouch.",
    "Two sizes fit most needs. Tested for harmful substances.",
    "",
]


def main(num_items: int = 240, num_users: int = 300, seed: int = 0) -> None:
    """Write both files."""
    generator = random.Random(seed)
    items = []
    for number in range(num_items):
        kind, color = generator.choice(KINDS), generator.choice(COLORS)
        material, use = generator.choice(MATERIALS), generator.choice(USES)
        user, brand = generator.choice(USERS), generator.choice(BRANDS)
        title = f"{color.title()} {material} {kind} no. {number + 1} by {brand}"
        # Real catalogues have holes.
        for_whom = f"For {use} with your {user}. " if generator.random() < 0.8 else ""
        about = for_whom + generator.choice(ABOUT)
        items.append((f"sku{number + 1:04}", title, about, material, use))
    with open(FOLDER / "items.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["item", "title", "description"])
        writer.writerows(item[:3] for item in items)
    with open(FOLDER / "interactions.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["user", "item", "time"])
        for user in range(num_users):
            material, use = generator.choice(MATERIALS), generator.choice(USES)
            weights = [
                1 + 12 * (item[3] == material) + 6 * (item[4] == use) for item in items
            ]
            bought = dict.fromkeys(generator.choices(items, weights, k=14))
            for day, item in enumerate(bought):
                date = f"2026-{1 + day // 28:02}-{1 + day % 28:02}"
                writer.writerow([f"u{user + 1:03}", item[0], date])


if __name__ == "__main__":
    main()
