"""E-mail and postal addresses, as texts by number; the ones that thieves use are from the same book."""

from dataclasses import dataclass

import numpy as np

from lakehouse.texts import Texts
from simulator import places
from simulator.options import Options
from simulator.population import Population
from simulator.randomness import Ints, generator
from simulator.spelling import joined

_GIVEN = (
    "ada alan alma amir anna anton aya ben carla cleo dario david elif emil emma erik eva felix finn gita greta hana "
    "hugo ines isak ivan jana jonas jules kai katja lara leo lina luca luis maja marc maria mats mia milo nadia "
    "nils noah nora olga omar oscar otto paula pia raul rosa ruth sami sara sofia tara theo tom uma vera yara zoe"
)
_FAMILY = (
    "abel adler almeida anders bakker bauer becker berg bianchi blanc bosch bruno castro conti costa dahl dubois duran "
    "ek engel evans faber fabre ferrari fischer fontana forsberg garcia gomez greco gruber haas hansen hoffmann holm "
    "horvat huber ito jansen jensen kaiser kaya keller klein koch kowalski kraus laine lambert lang larsen leroy lopez "
    "lund maier marin martin meyer moreau moretti muller nagy nilsson novak olsen ortiz park pereira petit popov ricci "
    "rossi roth roux santos sato schmid serra silva simon smit sousa stein suzuki tanaka tran vargas vidal virtanen "
    "vogel wagner walsh weber weiss wolf wood yilmaz young zeller"
)
_DOMAINS = ("example.com", "example.org", "example.net")
"""Reserved for documentation by RFC 2606: a mail to them reaches nobody."""
_STREETS = (
    "Bahnhofstraße,Calle Mayor,Church Road,Dorfstraße,Gartenweg,Grand Rue,High Street,Hoofdstraat,Kastanienallee,"
    "Kirchgasse,Lange Gasse,Lindenweg,Market Place,Mill Lane,Park Avenue,Plaza Nueva,Queen Street,Rua Direita,"
    "Rue de la Paix,Rue des Écoles,Ringstraße,Schulweg,Skolgatan,Stationsplein,Station Road,Storgatan,Strandvägen,"
    "Ulica Długa,Via Garibaldi,Via Roma,Victoria Road,Waldweg"
)


@dataclass(frozen=True)
class Contacts:
    """Texts by number. E-mail 2c + k is the k-th of customer c, address 2h + k that of household h; others follow."""

    emails: Texts
    own_emails: int
    addresses: Texts
    own_addresses: int
    address_city: Ints

    def foreign_emails(self, rng: np.random.Generator, n: int) -> Ints:
        """E-mail addresses that are no customer's."""
        return rng.integers(self.own_emails, len(self.emails), n)


def _digits(rng: np.random.Generator, n: int, high: int, width: int) -> Texts:
    value = rng.integers(0, high, n)[:, None]
    return Texts.fixed((value // 10 ** np.arange(width - 1, -1, -1) % 10 + 48).astype(np.uint8))


def _always(text: str, n: int) -> Texts:
    return Texts.of([text]).take(np.zeros(n, np.int64))


def build(options: Options, population: Population) -> Contacts:
    """The address book of a world."""
    rng = generator(options.seed, "contacts")
    given, family, streets = Texts.of(_GIVEN.split()), Texts.of(_FAMILY.split()), Texts.of(_STREETS.split(","))
    own_emails = 2 * len(population)
    emails = own_emails + max(100, len(population) // 8)
    mail = joined(
        [
            given.take(rng.integers(0, len(given), emails)),
            _always(".", emails),
            family.take(rng.integers(0, len(family), emails)),
            _digits(rng, emails, 100_000, 5),
            _always("@", emails),
            Texts.of(_DOMAINS).take(rng.integers(0, len(_DOMAINS), emails)),
        ]
    )
    households = len(population.household_city)
    # Besides homes: pick-up points, offices and friends abroad, where parcels also go.
    elsewhere = places.cities(rng.random(max(200, households // 4)))
    city = np.concatenate([np.repeat(population.household_city, 2), elsewhere])
    n = len(city)
    address = joined(
        [
            streets.take(rng.integers(0, len(streets), n)),
            _always(" ", n),
            Texts.of([str(i) for i in range(1, 180)]).take(rng.integers(0, 179, n)),
            _always(", ", n),
            _digits(rng, n, 100_000, 5),
            _always(" ", n),
            Texts.of(places.NAMES).take(city),
        ]
    )
    return Contacts(mail, own_emails, address, 2 * households, city)
