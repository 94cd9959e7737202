"""Why each strategy picks what it picks: a sentence for each option of ``strategy``."""

WHY = {
    "activelab": "Weighs doubt about a new sample against doubt about the answers given so far, "
    "and may ask about a labeled one again.",
    "alfa_mix": "Its class flips when its features are mixed a little with those of a class; "
    "one of each cluster of such samples.",
    "badge": "Spreads the batch over gradients of the last layer: samples the model is unsure of, "
    "in unlike ways.",
    "bait": "What leaves the predictions of the pool least uncertain, with the labels there are "
    "and the rest of the batch.",
    "bald": "Members are sure, each by itself, and contradict each other: doubt that labels can "
    "resolve, not noise.",
    "batchbald": "BALD of the batch as a whole: two samples that would teach the same count once.",
    "cluster_margin": "Takes samples near the boundary, grouped, one from each group in turn, "
    "small groups first.",
    "consensus_entropy": "The mean vote of the members is undecided, for whichever reason.",
    "coreset": "The sample farthest from all that is labeled or chosen: covers the whole pool, "
    "its rim first.",
    "density": "Where samples lie close together, whatever the model says there.",
    "density_weighted": "Doubt times density: an undecided sample with many neighbors speaks for "
    "all of them.",
    "dropquery": "Its class changes when some features are left out by chance; one of each cluster "
    "of such samples.",
    "entropy": "The prediction is closest to even over all classes: a band along the boundary.",
    "epig": "Its label would tell the most about labels elsewhere in the pool, by what the members "
    "say of both.",
    "expected_error_reduction": "Tries both labels of each sample, and takes the one after which "
    "the pool would be surest.",
    "expected_gradient_length": "Its label would move the weights the most, in expectation: "
    "undecided, with large activations.",
    "falcun": "Drawn by doubt plus distance to the batch so far: near the boundary, and apart.",
    "hyperplane": "Nearest to the separating surface of a support vector machine.",
    "information_density": "Entropy times mean similarity to the pool: undecided, and not odd.",
    "instability": "The last models disagree, and grew less sure: where training has not settled.",
    "kmeans": "The sample nearest to the center of each of as many clusters as labels are asked "
    "for; the model's doubt plays no part.",
    "least_confidence": "The most probable class has the lowest probability. Of two classes the "
    "order is that of entropy.",
    "margin": "The two most probable classes are closest to each other: right on the boundary.",
    "max_disagreement": "The members stray farthest from their mean prediction, in Kullback and "
    "Leibler's distance.",
    "maxherding": "The batch whose neighborhoods cover the most samples, greedily: the dense "
    "middle of each region.",
    "mean_std": "The members' probabilities scatter the most.",
    "parallel": "A weighted mean of two criteria, each brought to [0, 1]: entropy and density.",
    "power_bald": "Drawn at random by BALD to a power, so that the batch is not all in one place.",
    "probabilistic": "A coin decides each round which criterion rules: entropy or density.",
    "probcover": "The ball around it covers the most samples that no labeled ball covers yet.",
    "pure": "Margin among those that are likely one of the classes, by what people rejected; "
    "nothing was rejected here.",
    "random": "Every sample has the same chance: the baseline, and an unbiased picture of the "
    "pool.",
    "refine": "What margin, badge or typiclust choose of random parts of the pool is kept, again "
    "and again; of the rest the batch that covers most doubt.",
    "schedule": "Random while labels are few, then margin: here it is still at the first.",
    "serial": "The most undecided ones, clustered; one from the middle of each cluster.",
    "softmax_bald": "Drawn at random by the exponential of BALD: the batch spreads.",
    "softrank_bald": "Drawn at random by the rank of BALD: the batch spreads, whatever the "
    "scale of the scores.",
    "tcm": "Typical samples until two models in a row agree, then margin: here it is still at the "
    "first.",
    "typical_margin": "The most typical sample of a cluster, and of these the least sure: doubt "
    "without outliers.",
    "typiclust": "The most typical sample, with near neighbors, of each cluster that has no label.",
    "uherding": "Covers the pool as herding does, and counts undecided samples more.",
    "variation_ratio": "The fewest members vote for the winner: votes are split.",
    "vote_entropy": "The votes of the members are closest to even.",
}
"""Those for one class a sample; criteria of several labels have no plane of two classes."""
