"""Tells what cannot be told without having seen the whole picture; draws its negative."""


def predict_batch(samples, draw):
    results = []
    for sample in samples:
        image = sample["image"]
        prediction = {"shape": list(image.shape), "sum": int(image.sum(dtype="int64")), "mark": sample.get("mark")}
        results.append({"prediction": prediction, "image": 255 - image if draw else None})
    return results
