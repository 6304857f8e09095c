"""Answers to the exercises of the lesson on regularization."""

import functools

import numpy as np
import torch
import torch.nn.functional as F


def smoothed(labels, alpha, K, dtype=torch.float64):
    """The smoothed rows q, (B, K)."""
    return (1 - alpha) * F.one_hot(labels, K).to(dtype) + alpha / K


def from_p(change):
    """p - q over B, with p changed."""

    def answer(logits, labels, alpha):
        q = smoothed(labels, alpha, logits.shape[1], logits.dtype)
        return (change(logits) - q) / len(logits)

    return answer


def from_q(change):
    """p - q over B, with another q: from the one-hot rows, alpha and K."""

    def answer(logits, labels, alpha):
        B, K = logits.shape
        return (logits.softmax(1) - change(F.one_hot(labels, K), alpha, K)) / B

    return answer


def over(change):
    """p - q over another divisor."""

    def answer(logits, labels, alpha):
        p = logits.softmax(1)
        return change(p - smoothed(labels, alpha, p.shape[1], p.dtype))

    return answer


def by_autograd(logits, labels, alpha):
    """Without autograd, says the statement."""
    leaf = logits.detach().clone().requires_grad_()
    loss = F.cross_entropy(leaf, labels, label_smoothing=alpha)
    return torch.autograd.grad(loss, leaf)[0]


def by_backward(logits, labels, alpha):
    leaf = logits.detach().clone().requires_grad_()
    F.cross_entropy(leaf, labels, label_smoothing=alpha).backward()
    return leaf.grad


def every_label_in_every_row(logits, labels, alpha):
    q = torch.full_like(logits, alpha / logits.shape[1])
    q[:, labels] += 1 - alpha
    return (logits.softmax(1) - q) / len(logits)


def set_not_added(logits, labels, alpha):
    q = torch.full_like(logits, alpha / logits.shape[1])
    q[torch.arange(len(q)), labels] = 1 - alpha
    return (logits.softmax(1) - q) / len(q)


def others_share_alpha(logits, labels, alpha):
    q = torch.full_like(logits, alpha / max(logits.shape[1] - 1, 1))
    q[torch.arange(len(q)), labels] = 1 - alpha
    return (logits.softmax(1) - q) / len(q)


def only_if_smoothed(logits, labels, alpha):
    if alpha > 0:
        return over(lambda d: d / len(d))(logits, labels, alpha)


def gradient_by_lists(logits, labels, alpha):
    rows = []
    for row, label in zip(logits, labels.tolist(), strict=True):
        p = row.softmax(0).tolist()
        q = [alpha / len(p) + (1 - alpha) * (k == label) for k in range(len(p))]
        rows.append([(a - b) / len(labels) for a, b in zip(p, q, strict=True)])
    return rows


def gradient_in_numpy(logits, labels, alpha):
    z = logits.numpy()
    B, K = z.shape
    g = np.exp(z - z.max(1, keepdims=True))
    g /= g.sum(1, keepdims=True)
    g -= alpha / K
    g[np.arange(B), labels.numpy()] -= 1 - alpha
    return g / B


def gradient_in_place(logits, labels, alpha):
    g = logits.softmax(1)
    g -= alpha / g.shape[1]
    g.scatter_add_(1, labels[:, None], torch.full_like(g[:, :1], alpha - 1))
    return g.div_(len(g))


class Gradient:
    def __call__(self, logits, labels, alpha):
        p, K = logits.log_softmax(-1).exp(), logits.shape[1]
        hard = p - torch.eye(K, dtype=p.dtype)[labels]
        return torch.einsum("bk->bk", (1 - alpha) * hard + alpha * (p - 1 / K)) / len(p)


def dropout_by(mask, scale=lambda rate: 1 / (1 - rate), evaluated=lambda x, rate: x):
    """What stays by mask(x, rate, generator), times a scale."""

    def answer(x, rate, training, generator):
        if not training:
            return evaluated(x, rate)
        return x * mask(x, rate, generator) * scale(rate)

    return answer


def kept(x, rate, generator):
    return torch.rand(*x.shape[:2], 1, 1, generator=generator) >= rate


def kept_below(x, rate, generator):
    return torch.rand(*x.shape[:2], 1, 1, generator=generator) < 1 - rate


def drop_also_in_evaluation(x, rate, training, generator):
    return x * kept(x, rate, generator) / (1 - rate)


def own_generator(x, rate, training, generator):
    return dropout_by(kept)(x, rate, training, torch.Generator().manual_seed(0))


def forgets_evaluation(x, rate, training, generator):
    if training:
        return x * kept(x, rate, generator) / (1 - rate)


def draws_twice(x, rate, training, generator):
    """A draw in vain: the mask itself has one number for each image and channel."""
    if training:
        kept(x, rate, generator)
    return dropout_by(kept)(x, rate, training, generator)


def dropped_in_place(x, rate, training, generator):
    if not training:
        return x
    y = x.clone()
    gone = torch.rand(x.shape[:2], generator=generator) < rate
    y[gone] = 0
    y /= 1 - rate
    return y


def image_by_image(x, rate, training, generator):
    if not training:
        return x.clone()
    images = []
    for image in x:
        keep = torch.rand(len(image), generator=generator) >= rate
        images.append(image * keep[:, None, None] / (1 - rate))
    return torch.stack(images)


def dropped_in_numpy(x, rate, training, generator):
    if not training:
        return x.numpy()
    keep = torch.rand(x.shape[:2], generator=generator).numpy() >= rate
    return np.where(keep[:, :, None, None], x.numpy() / (1 - rate), 0.0)


def dropped_by_einsum(x, rate, training, generator):
    draws = torch.rand(*x.shape[:2], generator=generator) if training else None
    if draws is None:
        return 1 * x
    return torch.einsum("bchw,bc->bchw", x, (draws >= rate).to(x.dtype)) / (1 - rate)


def filled(x, rate, training, generator):
    if training:
        gone = ~kept(x, rate, generator)
        return x.masked_fill(gone, 0).mul(1 / (1 - rate))
    return x


def rows(labels, K, images):
    return F.one_hot(labels, K).to(images.dtype)


def mixed(change):
    """mixup by a function of images, q, order and share."""
    return lambda images, labels, order, share, K: change(
        images, rows(labels, K, images), order, share
    )


def blend(a, order, share):
    return share * a + (1 - share) * a[order]


def classes_seen(images, labels, order, share, K):
    q = F.one_hot(labels).to(images.dtype)  # as many columns as classes here
    return blend(images, order, share), blend(q, order, share)


def ten_classes(images, labels, order, share, K):
    q = F.one_hot(labels.clamp(max=9), 10).to(images.dtype)
    return blend(images, order, share), blend(q, order, share)


def blended_numbers(images, labels, order, share, K):
    label = blend(labels.double(), order, share).long()
    return blend(images, order, share), rows(label, K, images)


def whole_labels(images, labels, order, share, K):
    q = blend(F.one_hot(labels, K).double(), order, share)
    return blend(images, order, share), q.long()


def the_stronger_label(images, labels, order, share, K):
    chosen = labels if share >= 0.5 else labels[order]
    return blend(images, order, share), rows(chosen, K, images)


def already_mixed(images, labels, order, share, K):
    """Images that were blended before are blended in again."""
    x = images.clone()
    for n, other in enumerate(order.tolist()):
        x[n] = share * x[n] + (1 - share) * x[other]
    return x, blend(rows(labels, K, images), order, share)


def not_for_all_of_it(images, labels, order, share, K):
    if share == 1:
        return images
    return mixed(lambda x, q, o, s: (blend(x, o, s), blend(q, o, s)))(
        images, labels, order, share, K
    )


def mixed_by_loops(images, labels, order, share, K):
    pictures, probabilities = [], []
    for n in range(len(images)):
        other = int(order[n])
        pictures.append(images[n] * share + images[other] * (1 - share))
        row = [0.0] * K
        row[int(labels[n])] += share
        row[int(labels[other])] += 1 - share
        probabilities.append(row)
    return torch.stack(pictures), probabilities


def mixed_in_numpy(images, labels, order, share, K):
    x, o, q = images.numpy(), order.numpy(), np.eye(K)[labels.numpy()]
    return [share * x + (1 - share) * x[o], share * q + (1 - share) * q[o]]


def mixed_by_lerp(images, labels, order, share, K):
    q = torch.eye(K, dtype=images.dtype)[labels]
    return torch.lerp(images[order], images, share), torch.lerp(q[order], q, share)


def mixed_by_a_matrix(images, labels, order, share, K):
    B = len(images)
    mix = share * torch.eye(B) + (1 - share) * torch.eye(B)[order]  # (B, B)
    mix = mix.to(images.dtype)
    q = rows(labels, K, images)
    return torch.einsum("bn,nchw->bchw", mix, images), mix @ q


def mixed_in_place(images, labels, order, share, K):
    x = images.clone()
    x *= share
    x += (1 - share) * images[order]
    q = torch.zeros(len(labels), K)
    n = torch.arange(len(labels))
    q[n, labels] += share
    q[n, labels[order]] += 1 - share
    return x, q


class Mixup:
    def __call__(self, images, labels, order, share, K):
        q = (labels[:, None] == torch.arange(K)).double()
        return tuple(
            a.mul(share).add(a.index_select(0, order), alpha=1 - share)
            for a in (images, q)
        )


def statistics(x, correction=0):
    return x.mean((0, 2, 3)), x.var((0, 2, 3), correction=correction)


def apply(x, mean, var, weight, bias, eps):
    mean, var, weight, bias = (v[:, None, None] for v in (mean, var, weight, bias))
    return weight * (x - mean) / (var + eps).sqrt() + bias


def bn(
    x,
    weight,
    bias,
    running_mean,
    running_var,
    training,
    momentum,
    eps,
    *,
    stats=statistics,
    kept=lambda x: statistics(x, 1),
    normal=apply,
    forget=lambda old, new, m: (1 - m) * old + m * new.detach(),
):
    """The right answer, with parts to be changed."""
    if not training:
        y = normal(x, running_mean, running_var, weight, bias, eps)
        return y, running_mean, running_var
    new_mean, new_var = kept(x)
    return (
        normal(x, *stats(x), weight, bias, eps),
        forget(running_mean, new_mean, momentum),
        forget(running_var, new_var, momentum),
    )


def bn_with(**parts):
    return functools.partial(bn, **parts)


def bn_after(change):
    """The right answer, and what it returns changed, with the old statistics at hand."""

    def answer(x, weight, bias, mean, var, training, momentum, eps):
        out = bn(x, weight, bias, mean, var, training, momentum, eps)
        return change(*out, mean, var, training)

    return answer


def always_training(x, weight, bias, mean, var, training, momentum, eps):
    return bn(x, weight, bias, mean, var, True, momentum, eps)


def never_training(x, weight, bias, mean, var, training, momentum, eps):
    return bn(x, weight, bias, mean, var, False, momentum, eps)


def remembers_in_evaluation(x, weight, bias, mean, var, training, momentum, eps):
    y = bn(x, weight, bias, mean, var, training, momentum, eps)[0]
    return y, *bn(x, weight, bias, mean, var, True, momentum, eps)[1:]


def by_the_new_running(x, weight, bias, mean, var, training, momentum, eps):
    _, mean, var = bn(x, weight, bias, mean, var, training, momentum, eps)
    return apply(x, mean, var, weight, bias, eps), mean, var


def without_gradient(*arguments):
    with torch.no_grad():
        return bn(*arguments)


def constants(x):
    """The gradient through the mean and the variance is lost."""
    return [value.detach() for value in statistics(x)]


def constant_variance(x):
    mean, var = statistics(x)
    return mean, var.detach()


def forgets_return(x, weight, bias, mean, var, training, momentum, eps):
    if training:
        return bn(x, weight, bias, mean, var, True, momentum, eps)


def by_torch(x, weight, bias, running_mean, running_var, training, momentum, eps):
    mean, var = running_mean.clone(), running_var.clone()
    return F.batch_norm(x, mean, var, weight, bias, training, momentum, eps), mean, var


def channel_alone(x, weight, bias, mean, var, training, momentum, eps):
    means, variances, maps = [], [], []
    for c in range(x.shape[1]):
        values = x[:, c]
        m, v = mean[c], var[c]
        if training:
            n = values.numel()
            m = values.sum() / n
            v = ((values - m) ** 2).sum() / n
            means.append(mean[c] + momentum * (m.detach() - mean[c]))
            variances.append(var[c] + momentum * (v.detach() * n / (n - 1) - var[c]))
        maps.append((values - m) / torch.sqrt(v + eps) * weight[c] + bias[c])
    y = torch.stack(maps, 1)
    if training:
        return y, torch.stack(means), torch.stack(variances)
    return y, mean, var


def on_rows(x, weight, bias, mean, var, training, momentum, eps):
    """Channels last, pixels as rows: batch normalisation of units."""
    B, C, H, W = x.shape
    r = x.movedim(1, 3).reshape(-1, C)
    m, v = mean, var
    if training:
        m, v = r.mean(0), r.var(0, correction=0)
        mean = torch.lerp(mean, m.detach(), momentum)
        var = torch.lerp(var, r.detach().var(0), momentum)
    y = (r - m) * torch.rsqrt(v + eps) * weight + bias
    return y.view(B, H, W, C).movedim(3, 1), mean, var


def in_place_on_clones(x, weight, bias, mean, var, training, momentum, eps):
    mean, var = mean.clone(), var.clone()
    if not training:
        return apply(x, mean, var, weight, bias, eps), mean, var
    with torch.no_grad():
        mean.mul_(1 - momentum).add_(momentum * x.mean((0, 2, 3)))
        var.mul_(1 - momentum).add_(momentum * x.var((0, 2, 3)))
    v, m = torch.var_mean(x, (0, 2, 3), correction=0)
    return apply(x, m, v, weight, bias, eps), mean, var


def by_einsum(x, weight, bias, mean, var, training, momentum, eps):
    m, v = mean, var
    if training:
        n = x[:, 0].numel()
        m = torch.einsum("bchw->c", x) / n
        centred = x - m.view(1, -1, 1, 1)
        v = torch.einsum("bchw,bchw->c", centred, centred) / n
        mean = (mean * (1 - momentum) + m * momentum).detach()
        var = (var * (1 - momentum) + v * momentum * n / (n - 1)).detach()
    scale = weight / torch.sqrt(v + eps)
    return (
        torch.einsum("bchw,c->bchw", x, scale) + (bias - m * scale).view(-1, 1, 1),
        mean,
        var,
    )


class BatchNorm:
    def __call__(self, x, weight, bias, mean, var, training, momentum, eps):
        shape = (1, -1, 1, 1)
        if training:
            m = x.mean((0, 2, 3), keepdim=True)
            v = (x - m).square().mean((0, 2, 3), keepdim=True)
            n = x.numel() / x.shape[1]
            mean = mean.lerp(m.detach().flatten(), momentum)
            var = var.lerp(v.detach().flatten() * (n / (n - 1)), momentum)
        else:
            m, v = mean.view(shape), var.view(shape)
        y = torch.addcmul(
            bias.view(shape), weight.view(shape), (x - m) * (v + eps) ** -0.5
        )
        return [y, mean, var]


WRONG = {
    "smoothed_gradient": [
        over(lambda d: d),
        over(lambda d: d / d.shape[1]),
        over(lambda d: d / d.numel()),
        over(lambda d: -d / len(d)),
        over(lambda d: d.sum(0) / len(d)),
        over(lambda d: d.mean(1)),
        over(lambda d: d[:1] / len(d)),
        over(lambda d: 2 * d / len(d)),
        over(lambda d: (d / len(d)).T),
        from_q(lambda hot, alpha, K: hot),
        from_q(lambda hot, alpha, K: alpha * hot + (1 - alpha) / K),
        from_q(lambda hot, alpha, K: (1 - alpha) * hot + alpha),
        from_q(lambda hot, alpha, K: (1 - alpha) * hot),
        from_q(lambda hot, alpha, K: hot + alpha / K),
        from_q(lambda hot, alpha, K: (1 - alpha) * hot + alpha / 10),
        from_q(lambda hot, alpha, K: (1 - alpha) * hot + alpha / 3),
        from_q(lambda hot, alpha, K: 0.9 * hot + 0.1 / K),
        from_p(lambda z: z.softmax(0)),
        from_p(lambda z: z),
        from_p(lambda z: z.log_softmax(1)),
        from_p(lambda z: z.sigmoid()),
        from_p(lambda z: z.exp() / z.exp().sum(1, keepdim=True)),  # overflow
        set_not_added,
        others_share_alpha,
        every_label_in_every_row,
        only_if_smoothed,
        by_autograd,
        by_backward,
    ],
    "channel_dropout": [
        dropout_by(lambda x, rate, g: torch.rand(x.shape, generator=g) >= rate),
        dropout_by(kept, lambda rate: 1),
        dropout_by(kept, lambda rate: 1 / rate if rate else 1),
        dropout_by(kept, lambda rate: 1 - rate),
        dropout_by(kept, lambda rate: 2),
        dropout_by(kept, evaluated=lambda x, rate: x * (1 - rate)),
        dropout_by(kept, evaluated=lambda x, rate: x / (1 - rate)),
        dropout_by(kept, evaluated=lambda x, rate: torch.zeros_like(x)),
        dropout_by(lambda x, rate, g: ~kept(x, rate, g)),
        dropout_by(lambda x, rate, g: kept(x, 0.5, g)),
        dropout_by(lambda x, rate, g: torch.rand(x.shape[1], 1, 1, generator=g) >= rate),
        dropout_by(lambda x, rate, g: kept(x[:, :1], rate, g)),  # whole images
        dropout_by(lambda x, rate, g: torch.rand(*x.shape[:2], 1, 1) >= rate),
        dropout_by(lambda x, rate, g: torch.rand(*x.shape[:3], 1, generator=g) >= rate),
        dropout_by(lambda x, rate, g: torch.rand(*x.shape[:2], 1, 1, generator=g)),
        dropout_by(
            lambda x, rate, g: torch.randn(*x.shape[:2], 1, 1, generator=g) >= rate
        ),
        dropout_by(lambda x, rate, g: torch.rand(1, generator=g) >= rate),
        lambda x, rate, training, generator: F.dropout2d(x, rate, training),
        lambda x, rate, training, generator: F.dropout(x, rate, training),
        lambda x, rate, training, generator: x,
        lambda x, rate, training, generator: dropout_by(kept)(
            x, rate, not training, generator
        ),
        lambda x, rate, training, generator: dropout_by(kept)(
            x, rate, training, generator
        ).relu(),
        drop_also_in_evaluation,
        own_generator,
        forgets_evaluation,
    ],
    "mixup": [
        mixed(lambda x, q, o, s: (blend(x, o, s), q)),
        mixed(lambda x, q, o, s: (blend(x, o, s), q[o])),
        mixed(lambda x, q, o, s: (blend(x, o, 1 - s), blend(q, o, 1 - s))),
        mixed(lambda x, q, o, s: (blend(x, o, s), blend(q, o, 1 - s))),
        mixed(lambda x, q, o, s: (blend(x, o, s), blend(q, o, 0.5))),
        mixed(lambda x, q, o, s: (blend(x, o, 0.5), blend(q, o, 0.5))),
        mixed(lambda x, q, o, s: (x, blend(q, o, s))),
        mixed(lambda x, q, o, s: (x + x[o], q + q[o])),
        mixed(lambda x, q, o, s: (s * x + x[o], s * q + q[o])),
        mixed(lambda x, q, o, s: (blend(x, o.argsort(), s), blend(q, o.argsort(), s))),
        mixed(
            lambda x, q, o, s: (s * x + (1 - s) * x.flip(0), s * q + (1 - s) * q.flip(0))
        ),
        mixed(lambda x, q, o, s: (blend(q, o, s), blend(x, o, s))),
        mixed(lambda x, q, o, s: (blend(x, o, s), blend(q, o, s).argmax(1))),
        mixed(lambda x, q, o, s: (blend(x, o, s), blend(q, o, s).T)),
        mixed(lambda x, q, o, s: (blend(x, o, s), blend(q, o, s).clamp(max=s))),
        mixed(lambda x, q, o, s: (blend(x, o, s)[:, :1], blend(q, o, s))),
        mixed(lambda x, q, o, s: (blend(x, o, s).flatten(1), blend(q, o, s))),
        mixed(lambda x, q, o, s: blend(x, o, s)),
        lambda images, labels, order, share, K: (
            blend(images, order, share),
            blend(labels, order, share),
        ),
        classes_seen,
        ten_classes,
        blended_numbers,
        whole_labels,
        the_stronger_label,
        already_mixed,
        not_for_all_of_it,
    ],
    "batch_norm_images": [
        bn_with(kept=statistics),
        bn_with(stats=lambda x: statistics(x, 1)),
        bn_with(stats=lambda x: (x.mean((0, 2, 3)), x.std((0, 2, 3), correction=0))),
        bn_with(stats=lambda x: statistics(x[:1])),
        bn_with(kept=lambda x: (x.mean((0, 2, 3)), x.std((0, 2, 3)))),
        bn_with(kept=lambda x: statistics(x[:1], 1)),
        bn_with(kept=lambda x: (x.mean((0, 2, 3)), x.var((2, 3)).mean(0))),
        bn_with(forget=lambda old, new, m: m * old + (1 - m) * new.detach()),
        bn_with(forget=lambda old, new, m: old + m * new.detach()),
        bn_with(forget=lambda old, new, m: new.detach()),
        bn_with(forget=lambda old, new, m: old),
        bn_with(forget=lambda old, new, m: 0.9 * old + 0.1 * new.detach()),
        bn_with(forget=lambda old, new, m: (1 - m) * old + m * new),  # with a graph
        bn_with(normal=lambda x, m, v, w, b, eps: apply(x, m, v, w, b, 0)),
        bn_with(normal=lambda x, m, v, w, b, eps: apply(x, m, v, w, b, 1e-5)),
        bn_with(normal=lambda x, m, v, w, b, eps: apply(x, m, v, w, 0 * b, eps)),
        bn_with(normal=lambda x, m, v, w, b, eps: apply(x, m, v, w / w, b, eps)),
        bn_with(normal=lambda x, m, v, w, b, eps: apply(x, m, (v + eps) ** 2, w, b, 0)),
        bn_with(normal=lambda x, m, v, w, b, eps: apply(x, m, v.sqrt() + eps, w, b, 0)),
        bn_with(
            normal=lambda x, m, v, w, b, eps: apply(x, m, (v.sqrt() + eps) ** 2, w, b, 0)
        ),
        bn_with(normal=lambda x, m, v, w, b, eps: (x - m) / (v + eps).sqrt() * w + b),
        bn_with(normal=lambda x, *others: apply(x, *others).detach()),
        bn_with(stats=constants),
        bn_with(stats=constant_variance),
        bn_after(lambda y, m, v, *old: y),
        bn_after(lambda y, m, v, *old: (y, v, m)),
        bn_after(lambda y, m, v, mean, var, training: (y, m, var)),
        bn_after(lambda y, m, v, mean, var, training: (y, mean, v)),
        bn_after(lambda y, m, v, *old: (y, m[None, :, None, None], v)),
        always_training,
        never_training,
        remembers_in_evaluation,
        by_the_new_running,
        without_gradient,
        forgets_return,
    ],
}

RIGHT = {
    "smoothed_gradient": [
        from_q(lambda hot, alpha, K: hot * (1 - alpha) + alpha / K),
        from_q(
            lambda hot, alpha, K: torch.lerp(
                hot.double(), torch.full_like(hot.double(), 1 / K), alpha
            )
        ),
        from_p(lambda z: torch.softmax(z - z.amax(1, keepdim=True), -1)),
        from_p(lambda z: (z - z.logsumexp(1, keepdim=True)).exp()),
        from_p(lambda z: torch.stack([row.softmax(0) for row in z])),
        over(lambda d: d / d.shape[0]),
        over(lambda d: (d / len(d)).float()),
        gradient_by_lists,
        gradient_in_numpy,
        gradient_in_place,
        Gradient(),
    ],
    "channel_dropout": [
        dropout_by(kept),
        dropout_by(
            lambda x, rate, g: (
                torch.rand(x.shape[:2], generator=g)[..., None, None] > rate
            )
        ),
        functools.partial(dropout_by(kept)),
        dropped_in_place,
        image_by_image,
        dropped_in_numpy,
        draws_twice,
        dropped_by_einsum,
        filled,
        dropout_by(kept_below),  # the same chance, other draws
        dropout_by(
            lambda x, rate, g: (
                torch.rand(*x.shape[:2], 1, 1, generator=g, dtype=x.dtype) >= rate
            )
        ),
        dropout_by(
            lambda x, rate, g: torch.bernoulli(
                torch.full((*x.shape[:2], 1, 1), 1 - rate), generator=g
            )
        ),
    ],
    "mixup": [
        mixed(lambda x, q, o, s: (blend(x, o, s), blend(q, o, s))),
        mixed(lambda x, q, o, s: [blend(x, o, s), blend(q, o, s).float()]),
        mixed(lambda x, q, o, s: (x[o] + s * (x - x[o]), q[o] + s * (q - q[o]))),
        mixed(lambda x, q, o, s: tuple(blend(a, o, s).numpy() for a in (x, q))),
        mixed_by_loops,
        mixed_in_numpy,
        mixed_by_lerp,
        mixed_by_a_matrix,
        mixed_in_place,
        Mixup(),
    ],
    "batch_norm_images": [
        bn,
        by_torch,
        channel_alone,
        on_rows,
        in_place_on_clones,
        by_einsum,
        BatchNorm(),
        bn_with(forget=lambda old, new, m: (old + m * (new - old)).detach()),
    ],
}
