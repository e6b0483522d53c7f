import pytest

from lts_jax.experiment.timetable import Timetable


@pytest.mark.parametrize(
    ("timetable", "total", "evaluated"),
    [
        (Timetable(10.0, 3.0, 1.0, 50), 30, [10, 20, 30]),
        (Timetable(10.0, 2.4, 1.0, 50), 24, [10, 24]),  # 20 is too close to the end
        (Timetable(10.0, 2.5, 1.0, 50), 25, [10, 20, 25]),
        (Timetable(2.5, 2.0, 0.1, 50), 5, [1, 2, 3, 4, 5]),
        (Timetable(0.2, 0.5, 1.0, 50), 1, [1]),
    ],
)
def test_the_last_step_is_evaluated_but_no_step_shortly_before_it(timetable, total, evaluated):
    assert timetable.total_steps == total
    assert [s for s in range(1, total + 1) if timetable.evaluates_after(s)] == evaluated


def test_the_first_step_and_evaluated_steps_are_logged():
    timetable = Timetable(10.0, 3.0, 1.0, 7)
    logged = [s for s in range(1, 31) if timetable.logs_after(s)]
    assert logged == [1, 7, 10, 14, 20, 21, 28, 30]
