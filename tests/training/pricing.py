"""What decisions cost in tests, whatever the settings say."""

from lakehouse.experiment_settings import Costs

COSTS = Costs(
    challenge_passes=0.1,
    review_passes=0.2,
    review_minor=400,
    challenge_genuine_minor=30,
    review_genuine_minor=200,
    decline_genuine_minor=1000,
    decline_genuine_share=0.02,
)
