"""What each figure shows: its caption, by the kind that its name begins with."""

from __future__ import annotations

CAPTIONS = {
    "ev": "Explained variance of {dictionary} dictionaries of the anchor, per site, on held-out "
    "tokens of the other seeds. Black: the anchor's own tokens. Blue: tokens of another seed "
    "after one Procrustes rotation. Orange-red: the same tokens raw. Beside them a "
    "shift of the mean alone, and the nulls in which no token is matched to its own: a random "
    "rotation, a rotation fitted on tokens shuffled within their position, and Gaussian noise "
    "with the target's mean and covariance. Points are pairs of seeds with 95 % bootstrap intervals over sequences, "
    "lines join medians; medians below −1.5 are written at the lower edge.",
    "firing": "Correlation over tokens between what each latent of {dictionary} does on the "
    "anchor's activations and on another seed's carried activations, averaged over latents that "
    "are live in both. The Gaussian arm has no pairing, hence no correlation. Points are pairs "
    "with 95 % bootstrap intervals over sequences.",
    "ladder": "What each map carries of the target into the source, per site, on held-out tokens, from "
    "the identity to an affine map; on grey, the nulls. Blue: variance of the source's activations "
    "that the carried ones explain. Orange-red and green: reconstruction and firing of the run's "
    "sparsest dictionary, token by token against the source's own. Pink: cross-entropy that the "
    "source recovers with carried activations in place of its own, between zero ablation (0) and "
    "none (1). Ceiling: the source's own activations, to the target and back by the rotations of two "
    "halves of the tokens. Points are pairs, lines join medians; values below −1 lie on the lower edge.",
    "power": "Left: share of matrices that each test rejects at α = .05, by what the matrices are; the "
    "column of Haar draws is each test's size. Right: the same over the size of an effect, with 95 % intervals over draws. ks iid is "
    "the published test, which takes eigenphases as independent.",
    "eigenphases": "Empirical law of the eigenangles, pooled over the anchor's pairs, less its mean "
    "under Haar measure. Grey: where 95 % of pools of as many Haar draws lie at each angle. A "
    "rotation fitted on shuffled tokens, and one that matches principal axes alone, stand beside it. "
    "A title in red: the activations do not span all dimensions, and part of R is arbitrary.",
    "published-ev": "Figure 1 of arXiv 2605.24577 redrawn: explained variance as published, on the "
    "very tokens that the rotation was fitted on, of the anchor's dictionary on its own model, on "
    "another seed raw, rotated and shifted, and on Gaussian noise with the anchor's mean and "
    "covariance. Dashed: the same dictionary through maps that know no pairing, on held-out tokens. "
    "Points are pairs, lines join medians; values below −1.5 lie on the lower edge.",
    "published-rotation": "Figure 2 of arXiv 2605.24577 redrawn. Left: Frobenius distance of R from "
    "the identity per pair and site, beside rotations fitted on shuffled tokens, rotations that match "
    "principal axes by rank, and random ones; grey: where 95 % of Haar draws lie. A site in red has "
    "activations that do not decide the whole of R. Right: density of the eigenphases over all pairs "
    "and sites, for R and for the same two controls; dotted: the law of Haar draws for large d.",
    "twins": "What is shared beyond k directions: Procrustes less its twin, whose pairs agree in the "
    "target's k leading principal directions and are shuffled in the rest (k = 0: all shuffled), for "
    "the run's sparsest dictionary on held-out tokens. Points are pairs and starts, lines join medians; "
    "differences beyond 2 lie on the edge.",
    "decoder-cosine": "Mean over the anchor's latents of the largest decoder cosine among another "
    "seed's latents, two by two: SAEs started from the same weights (orange-red) or independently "
    "(blue), in the raw basis or after the rotation. Dotted: dictionaries of random directions. Points "
    "are pairs of seeds, lines their means; same index: best matches that have the same index.",
    "drift-checkpoint": "Each checkpoint beside the reference checkpoint of its own seed, per "
    "site, on held-out tokens: variance of the reference's activations explained by the "
    "checkpoint's own (orange-red), after a shift of the mean (green), after a rotation (blue), and "
    "by a rotation fitted on shuffled tokens (amber); values below −1 lie on the lower edge. Grey: "
    "distance of the rotation from the identity inside the identified directions, as a share of "
    "what a random rotation has. Lines join medians over seeds, points are seeds. A title in red "
    "has the smallest rank of a site whose activations do not decide the whole rotation.",
    "drift-ev": "Explained variance of {dictionary} dictionaries of the reference checkpoint, per site, on "
    "held-out tokens: of the reference's own activations (black), of other checkpoints' raw "
    "(orange-red), after a shift of the mean (green), after a rotation (blue), and after a rotation "
    "fitted on shuffled tokens (amber). Lines join medians over seeds, points are seeds.",
    "drift-seed": "Each seed beside the anchor at the same checkpoint, per site, on held-out tokens; lines as of checkpoints.",
    "steering-doses": "Response to steering, per cohort and concept (rows) and site (columns): how far the "
    "intended logit moves against those that are neither intended nor old, or, of a head with two classes, "
    "against the other one, over the dose. Black: the target's own vector. Blue: the source's, rotated. "
    "Orange-red: the source's as it is. Amber and pink, dashed: the source's through a rotation fitted on "
    "shuffled tokens, or of another pair. Dark grey: where 95 % of random directions lie; light grey: of "
    "directions drawn from the target's covariance (the widest over pairs). Lines are means over pairs, "
    "points pairs with 95 % bootstrap intervals over prompts or sequences.",
    "steering-regimes": "How much of the native response a raw vector of another seed has, over how much of "
    "the vector lies in the span of what shared weights fix (cohorts that share some; dotted: a random "
    "direction), or over how little the rotation turns it (cohorts that share none). Points are pairs and "
    "sites with 95 % bootstrap intervals, grey bars where 95 % of random directions lie. 1 is a vector that "
    "needs no map.",
    "features": "Above: correlation, over predictions, of what taking a latent out does in the target with "
    "what it does in the source; latents of the source's dictionary, rotated to the target (blue), as they "
    "are (orange-red), through rotations that match no token (amber, grey), a random direction scaled like "
    "the latent (pink), and the fingerprint of another latent (green). Below: replacing latents of the target "
    "by their matched partners, read from the source, over the share that is replaced; 1: as if nothing were "
    "replaced, 0: as bad as taking them out, values below −1 lie on the edge. Thin lines are pairs and sites.",
    "attribution": "What attribution predicts of ablating a component to its mean, over what it does, a "
    "point a component and batch; axes are linear around 0 and logarithmic beyond. Blocks are their "
    "contributions; residual replaces the whole residual stream, as the study did for language models.",
    "attribution-cost": "Error of each method over the forward and backward passes it takes of one "
    "component and batch. Grey: the pass that measuring takes. Points are seeds, lines medians.",
    "stability": "SAEs of one member and site that differ in nothing but their seed, a line a dictionary. Left: latents "
    "that fire and to which both matchings give the same partner, with both cosines above the threshold (strict), encoders weighed by the covariance of "
    "activations. "
    "Right: the mean cosine of matched decoder directions. Means over pairs of SAE seeds with 95 % intervals by leaving "
    "out one seed at a time (from four seeds on); where several members have such SAEs, means over these, of interval ends too. Hollow: SAEs of the model before training, where the run has them; crosses: "
    "two SAEs on activations whose principal components are dealt out to other tokens; grey ticks: random directions of the "
    "same number and width.",
    "stability-sweeps": "What SAE seeds share over what is varied about one dictionary; lines and points are sites, marks as above.",
    "bridge": "Latents of the anchor's SAEs matched with those of another member's after each map, points pairs of members, "
    "means over SAE seeds with 95 % intervals over these, for that pair of members. Left, and dotted: two SAEs of one member, "
    "the ceiling. On grey: maps that match no token to its own. Hollow: before training. Grey line: random directions. "
    "Encoders are compared through orthogonal maps alone: the inverse of a regression amplifies what it predicts worst.",
    "stability-decay": "Latents of one SAE that none of k − 1 others has, of those that fire; mean over "
    "which SAE it is, over sets of others, and over sites, whose range the bars are. Dotted: as two SAEs on shuffled features "
    "share, were any latent as likely to be found again as any other; grey: random directions, likewise. Published for 32,768 "
    "latents of Pythia-160m, by another criterion: .58 at two, .35 at nine.",
    "stability-latents": "Left: share of all latents whose matched decoder cosine is above a threshold, over the threshold; dotted, SAEs on shuffled features; grey, random directions. Middle: "
    "strict share, on data, of latents by how often they fire, from the rarest quarter to the densest. Right: how "
    "often latents fire that are found in exactly so many SAEs (median; bars: 95 % intervals by leaving out one SAE). Means over sites.",
    "interpret": "How well the firing of a latent of the first SAE is told by its explanation, over the number of SAEs in "
    "which it is found. Detection: whether it fires in a window of held-out text; fuzzing: whether the marked tokens are "
    "those it fires at. Means over the latents drawn of each class and over sites, with 95 % intervals by leaving out one latent "
    "at a time. Dashed: n-grams laid over other windows, or the explanation of another latent. Grey line: chance. Open circles: "
    "the published scores of another model by another scorer.",
    "weights": "Relative error of every tensor of one member moved to another by symmetries of the model, in a gauge "
    "in which it does not depend on the basis. Points are pairs of seeds, lines medians. Blue: best element "
    "found. Green: the published search with its rotation mended; orange-red: as published. Grey: random "
    "elements. Pink: an untrained model of the same size, best element found: what fits anything. Dotted: zero weights; "
    "values above 2 lie on the edge.",
    "weights-joint": "What one more rotation of the residual stream trades between weights and activations, after "
    "the published search. Blue: the optimum for every λ. Orange-red: the states that the published optimiser "
    "keeps (λ from 0 to 100); green: of the states it looked at, those of least loss. A line a pair of seeds.",
    "bars": "Correlation of effects that the primary's integrated gradients predict with those measured on other "
    "batches, of components and of edges: for the primary itself, another seed, and decoys. Bars: 95 % "
    "bootstrap intervals over components or edges and batches. Grey: the median with heads under each other's names. "
    "Dotted: the published threshold.",
    "edges": "What cutting each edge adds to the loss, mean over batches, bars from the least to the largest; heads of other seeds under their own names. "
    "An edge leads from what a component writes to one that reads it, or to the logits.",
    "joint": "Latents of models A and B by condition (1 to 3′: SAEs trained apart; 4: one SAE for both, no map; 5: with W; 6: with "
    "W and the cross loss) and of what the study omits. Full: matched on other sentences than those scored, SAEs with starts of "
    "their own; open circles: one start, or another weight of the cross loss; triangles: matched in sample. Points are means over "
    "pairs with 95 % intervals over these (of one pair: bootstrap over its texts), small dots pairs. Grey ticks: one model's "
    "tokens shifted against the other's, where latents are matched those that they are matched on too.",
    "joint-geometry": "Decoder directions of active latents of model A on their two leading principal axes, of the first pair of "
    "each cohort. Blue: universal. Below each: the mean absolute cosine of active latents' directions, mean over both models, "
    "beside that of random directions in as many dimensions, and the share of variance along the axes.",
    "joint-nulls": "Universal latents after retraining with other maps, a point a retraining, lines their means; W of partly shuffled "
    "tokens from few to many, W on leading principal directions alone from few to many; points with no map, and with W, are pairs "
    "and starts. Below, in the same colours, over 1 less the normalised error of the map on held-out tokens.",
    "joint-sizes": "Above: Frobenius distance of W fitted on n sequences to W fitted on all, in whole (black), within the directions "
    "that hold 99 % of the singular values of H_AᵀH_B (blue), and outside (orange-red). Below: normalised error on held-out "
    "sequences; open: it falls by less than 1 % a doubling. Dashed: the same where A's tokens are paired with others of B. Lines "
    "are pairs.",
    "joint-counterfactuals": "How far an edit that changes a sentence's class changes the peak of latents that tell that class, over "
    "at least 20 sentences an edit (full), and how far a neutral edit of the same sentences does (open); below the line, a placebo: "
    "edits that leave the class. Points are latents and pairs, ticks medians; changes beyond the axis lie on its edge.",
    "training": "Training loss of the models, mean over 50 steps.",
}


def kind_of(name: str) -> str:
    """What kind a figure is of: the longest that its name begins with."""
    return max((kind for kind in CAPTIONS if f"{name}-".startswith(f"{kind}-")), key=len)


def caption(name: str) -> str:
    """The caption of a figure, named after its kind and, for some, a dictionary."""
    kind = kind_of(name)
    return CAPTIONS[kind].format(dictionary=name[len(kind) + 1 :])
