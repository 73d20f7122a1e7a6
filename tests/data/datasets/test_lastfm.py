from attrcloak.data.datasets import lastfm


def test_play_log_and_profile(tmp_path):
    plays = [
        "u1\t2009-05-04T23:08:57Z\ta1\tA\t\tt",
        "u1\t2009-05-05T23:08:57Z\ta1\tA\t\tt",
        "u2\t2009-05-04T23:08:57Z\t\tB\t\tt",
    ]
    (tmp_path / lastfm.PLAYS).write_text("\n".join(plays) + "\n")
    (tmp_path / lastfm.PROFILE).write_text(
        "#id\tgender\tage\tcountry\tregistered\nu1\tm\t22\tJapan\tx\nu2\t\t\tAntarctica\tx\n"
    )
    data, people = lastfm.read_lastfm(tmp_path)
    assert len(data) == 2
    assert data.items.values.tolist() == ["B", "a1"]
    assert data.times.max() == 1241564937
    assert people["continent"].codes.tolist() == [0, -1]
    assert people["age"].codes.tolist() == [1, -1]
