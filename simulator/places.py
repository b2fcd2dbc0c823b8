"""Where the world happens: cities with their countries, languages, currencies and local time."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulator.options import DAY_MS
from simulator.randomness import Doubles, Ints, drawn, unit

# name, country, degrees north, degrees east, minutes east of UTC in winter, summer time, residents per thousand.
# Three in four live where the euro is paid, as the home currency of this world is the euro; every city has residents,
# so that no place on the map stands for travellers or thieves alone. Coordinates are those of the city halls, rounded.
_CITIES = (
    ("Berlin", "DE", 52.52, 13.41, 60, "EU", 58),
    ("Hamburg", "DE", 53.55, 9.99, 60, "EU", 40),
    ("München", "DE", 48.14, 11.58, 60, "EU", 38),
    ("Köln", "DE", 50.94, 6.96, 60, "EU", 34),
    ("Paris", "FR", 48.86, 2.35, 60, "EU", 62),
    ("Lyon", "FR", 45.76, 4.84, 60, "EU", 34),
    ("Marseille", "FR", 43.30, 5.38, 60, "EU", 28),
    ("Madrid", "ES", 40.42, -3.70, 60, "EU", 50),
    ("Barcelona", "ES", 41.39, 2.17, 60, "EU", 42),
    ("Valencia", "ES", 39.47, -0.38, 60, "EU", 26),
    ("Roma", "IT", 41.90, 12.50, 60, "EU", 46),
    ("Milano", "IT", 45.46, 9.19, 60, "EU", 40),
    ("Napoli", "IT", 40.85, 14.27, 60, "EU", 28),
    ("Amsterdam", "NL", 52.37, 4.90, 60, "EU", 34),
    ("Rotterdam", "NL", 51.92, 4.48, 60, "EU", 24),
    ("Bruxelles", "BE", 50.85, 4.35, 60, "EU", 30),
    ("Wien", "AT", 48.21, 16.37, 60, "EU", 34),
    ("Lisboa", "PT", 38.72, -9.14, 0, "EU", 30),
    ("Dublin", "IE", 53.35, -6.26, 0, "EU", 26),
    ("Helsinki", "FI", 60.17, 24.94, 120, "EU", 24),
    ("Athina", "GR", 37.98, 23.73, 120, "EU", 26),
    ("London", "GB", 51.51, -0.13, 0, "EU", 36),
    ("Manchester", "GB", 53.48, -2.24, 0, "EU", 18),
    ("Zürich", "CH", 47.38, 8.54, 60, "EU", 16),
    ("Genève", "CH", 46.20, 6.14, 60, "EU", 12),
    ("Stockholm", "SE", 59.33, 18.07, 60, "EU", 18),
    ("Göteborg", "SE", 57.71, 11.97, 60, "EU", 12),
    ("Warszawa", "PL", 52.23, 21.01, 60, "EU", 20),
    ("Kraków", "PL", 50.06, 19.94, 60, "EU", 12),
    ("Praha", "CZ", 50.09, 14.42, 60, "EU", 14),
    ("København", "DK", 55.68, 12.57, 60, "EU", 14),
    ("Oslo", "NO", 59.91, 10.75, 60, "EU", 12),
    ("New York", "US", 40.71, -74.01, -300, "US", 18),
    ("Miami", "US", 25.76, -80.19, -300, "US", 10),
    ("Los Angeles", "US", 34.05, -118.24, -480, "US", 10),
    ("Toronto", "CA", 43.65, -79.38, -300, "US", 10),
    ("Tokyo", "JP", 35.68, 139.65, 540, "", 12),
    ("Singapore", "SG", 1.35, 103.82, 480, "", 10),
    ("Dubai", "AE", 25.20, 55.27, 240, "", 10),
)
# country -> language (BCP 47), currency
_COUNTRIES = {
    "DE": ("de", "EUR"),
    "FR": ("fr", "EUR"),
    "ES": ("es", "EUR"),
    "IT": ("it", "EUR"),
    "NL": ("nl", "EUR"),
    "BE": ("fr", "EUR"),
    "AT": ("de", "EUR"),
    "PT": ("pt", "EUR"),
    "IE": ("en", "EUR"),
    "FI": ("fi", "EUR"),
    "GR": ("el", "EUR"),
    "GB": ("en", "GBP"),
    "CH": ("de", "CHF"),
    "SE": ("sv", "SEK"),
    "PL": ("pl", "PLN"),
    "CZ": ("cs", "CZK"),
    "DK": ("da", "DKK"),
    "NO": ("nb", "NOK"),
    "US": ("en", "USD"),
    "CA": ("en", "CAD"),
    "JP": ("ja", "JPY"),
    "SG": ("en", "SGD"),
    "AE": ("ar", "AED"),
}
# currency -> units per euro (about the ECB's reference rates of early 2024), digits after the point (ISO 4217), and the
# smallest common banknote. Only the size of amounts hangs on the rates.
_CURRENCIES = {
    "EUR": (1.0, 2, 10),
    "GBP": (0.86, 2, 10),
    "CHF": (0.95, 2, 10),
    "SEK": (11.3, 2, 100),
    "PLN": (4.35, 2, 50),
    "CZK": (24.9, 2, 200),
    "DKK": (7.46, 2, 100),
    "NOK": (11.4, 2, 100),
    "USD": (1.09, 2, 20),
    "CAD": (1.46, 2, 20),
    "JPY": (161.0, 0, 1000),
    "SGD": (1.45, 2, 10),
    "AED": (4.0, 2, 50),
}

NAMES = tuple(c[0] for c in _CITIES)
COUNTRIES = tuple(_COUNTRIES)
LANGUAGES = tuple(sorted({language for language, _ in _COUNTRIES.values()}))
CURRENCIES = tuple(_CURRENCIES)

COUNTRY = np.array([COUNTRIES.index(c[1]) for c in _CITIES], np.int64)
LATITUDE = np.array([c[2] for c in _CITIES])
LONGITUDE = np.array([c[3] for c in _CITIES])
RESIDENTS = np.array([c[6] for c in _CITIES], np.float64)
LANGUAGE_OF = np.array([LANGUAGES.index(language) for language, _ in _COUNTRIES.values()], np.int64)
CURRENCY_OF = np.array([CURRENCIES.index(currency) for _, currency in _COUNTRIES.values()], np.int64)
PER_EURO = np.array([c[0] for c in _CURRENCIES.values()])
MINOR_UNITS = np.array([10 ** c[1] for c in _CURRENCIES.values()], np.int64)
BANKNOTE = np.array([c[2] for c in _CURRENCIES.values()], np.float64)
_WINTER_OFFSET = np.array([c[4] for c in _CITIES], np.int64)
_SUMMER_TIME = np.array([c[5] for c in _CITIES])

EARTH_RADIUS_KM = 6_371.0
FLIGHT_KMH = 800.0
"""Cruising speed of airliners, so that no honest traveller is faster."""
TRANSFER_H = 3.0
"""To the airport, through it and out of it again."""


def _sundays(year: int, month: int) -> list[int]:
    first = int(np.datetime64(f"{year}-{month:02d}-01").astype(np.int64))
    days = (np.datetime64(f"{year}-{month:02d}-01", "M") + 1).astype("datetime64[D]").astype(np.int64) - first
    return [first + d for d in range(int(days)) if (first + d + 3) % 7 == 6]


def offset_min(at_ms: int) -> Ints:
    """Minutes east of UTC of every city on the day of `at_ms`, summer time included."""
    day = at_ms // DAY_MS
    year = int(np.datetime64(day, "D").astype("datetime64[Y]").astype(np.int64)) + 1970
    # EU Directive 2000/84/EC; US Energy Policy Act of 2005. To the day, as nobody's habits hang on the hour of change.
    europe = _sundays(year, 3)[-1] <= day < _sundays(year, 10)[-1]
    america = _sundays(year, 3)[1] <= day < _sundays(year, 11)[0]
    summer = ((_SUMMER_TIME == "EU") & europe) | ((_SUMMER_TIME == "US") & america)
    offset: Ints = _WINTER_OFFSET + 60 * summer
    return offset


def distance_km(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> Doubles:
    """Great-circle distance between cities (haversine)."""
    north_a, north_b = np.radians(LATITUDE[a]), np.radians(LATITUDE[b])
    half_lat = (north_b - north_a) / 2
    half_lon = np.radians(LONGITUDE[b] - LONGITUDE[a]) / 2
    h = np.sin(half_lat) ** 2 + np.cos(north_a) * np.cos(north_b) * np.sin(half_lon) ** 2
    distance: Doubles = 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(h))
    return distance


@dataclass(frozen=True)
class Spread:
    """How far things lie from their city's middle."""

    degrees: float

    def around(self, city: Ints, index: npt.NDArray[np.int64], key: int) -> tuple[Doubles, Doubles]:
        """(latitude, longitude) that belongs to each index, to five decimals, which is about a metre."""
        north = LATITUDE[city] + self.degrees * (unit(index, key) + unit(index, key ^ 1) - 1)
        east = LONGITUDE[city] + self.degrees * (unit(index, key ^ 2) + unit(index, key ^ 3) - 1)
        return np.round(north, 5), np.round(east, 5)


def compatriots(city: Ints, u: Doubles) -> Ints:
    """For each city one of its country, by residents."""
    order = np.argsort(COUNTRY, kind="stable")
    upto = np.concatenate([[0.0], np.cumsum(RESIDENTS[order])])
    first = np.searchsorted(COUNTRY[order], COUNTRY[city])
    after = np.searchsorted(COUNTRY[order], COUNTRY[city], side="right")
    target = upto[first] + u * (upto[after] - upto[first])
    found: Ints = order[np.clip(np.searchsorted(upto, target, side="right") - 1, first, after - 1)]
    return found


RESIDENTS_CUMULATIVE = np.cumsum(RESIDENTS)


def cities(u: Doubles) -> Ints:
    """A city for each u in [0, 1), by residents."""
    return drawn(RESIDENTS_CUMULATIVE, u)
