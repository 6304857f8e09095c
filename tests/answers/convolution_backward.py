"""Answers to the exercises of the lesson on the backward pass of a convolution."""

import functools
import itertools

import numpy as np
import torch
import torch.nn.functional as F


def patches(x, k, stride):
    H, W = x.shape
    tops, lefts = range(0, H - k + 1, stride), range(0, W - k + 1, stride)
    return [x[i : i + k, j : j + k] for i in tops for j in lefts]


def columns_of(change):
    """Columns of changed patches."""
    return lambda x, k, stride: torch.stack(
        [change(patch).flatten() for patch in patches(x, k, stride)], 1
    )


def columns_after(change):
    """The right columns, changed."""
    return lambda x, k, stride: change(columns_of(lambda patch: patch)(x, k, stride))


def outputs_down_first(x, k, stride):
    H, W = x.shape
    tops, lefts = range(0, H - k + 1, stride), range(0, W - k + 1, stride)
    found = [x[i : i + k, j : j + k].flatten() for j in lefts for i in tops]
    return torch.stack(found, 1)


def height_for_both(x, k, stride):
    H = x.shape[0]
    found = []
    for i in range(0, H - k + 1, stride):
        for j in range(0, H - k + 1, stride):
            found.append(x[i : i + k, j : j + k].flatten())
    return torch.stack(found, 1)


def last_ones_left_out(x, k, stride):
    H, W = x.shape
    found = []
    for i in range(0, max(H - k, 1), stride):
        for j in range(0, max(W - k, 1), stride):
            found.append(x[i : i + k, j : j + k].flatten())
    return torch.stack(found, 1)


def places_not_strided(x, k, stride):
    H, W = x.shape
    found = []
    for i in range((H - k) // stride + 1):
        for j in range((W - k) // stride + 1):
            found.append(x[i : i + k, j : j + k].flatten())
    return torch.stack(found, 1)


def stride_across_only(x, k, stride):
    H, W = x.shape
    found = []
    for i in range(H - k + 1):
        for j in range(0, W - k + 1, stride):
            found.append(x[i : i + k, j : j + k].flatten())
    return torch.stack(found, 1)


def ready_made_columns(x, k, stride):
    """By loops, says the statement."""
    return F.unfold(x[None, None], k, stride=stride)[0]


def by_a_module(x, k, stride):
    return torch.nn.Unfold(k, stride=stride)(x[None, None])[0]


def returns_after_the_first_row(x, k, stride):
    found = []
    for i in range(0, x.shape[0] - k + 1, stride):
        for j in range(0, x.shape[1] - k + 1, stride):
            found.append(x[i : i + k, j : j + k].flatten())
        return torch.stack(found, 1)


def entry_by_entry(x, k, stride):
    H, W = x.shape
    H_out, W_out = (H - k) // stride + 1, (W - k) // stride + 1
    c = x.new_zeros(k * k, H_out * W_out)
    for i, j in itertools.product(range(H_out), range(W_out)):
        for u, v in itertools.product(range(k), range(k)):
            c[u * k + v, i * W_out + j] = x[stride * i + u, stride * j + v]
    return c


def by_taps(x, k, stride):
    H, W = x.shape
    rows = []
    for u in range(k):
        for v in range(k):
            taken = x[u : H - k + u + 1 : stride, v : W - k + v + 1 : stride]
            rows.append(taken.reshape(-1))
    return torch.stack(rows)


def columns_by_numbers(x, k, stride):
    X = x.tolist()
    found = []
    for i in range(0, len(X) - k + 1, stride):
        for j in range(0, len(X[0]) - k + 1, stride):
            found.append([v for row in X[i : i + k] for v in row[j : j + k]])
    return [list(row) for row in zip(*found, strict=True)]


def columns_in_numpy(x, k, stride):
    x = np.asarray(x)
    places = itertools.product(
        range(0, x.shape[0] - k + 1, stride), range(0, x.shape[1] - k + 1, stride)
    )
    return np.column_stack([x[i : i + k, j : j + k].ravel() for i, j in places])


def columns_side_by_side(x, k, stride):
    c = torch.empty(k * k, 0, dtype=x.dtype)
    for patch in patches(x, k, stride):
        c = torch.cat([c, patch.reshape(k * k, 1)], dim=1)
    return c


class Columns:
    def __call__(self, x, k, stride):
        return torch.vstack([p.reshape(1, -1) for p in patches(x, k, stride)]).mT


def pool_by(
    give,
    *,
    start=torch.zeros_like,
    step=lambda k, stride: stride,
    put=lambda old, new: old + new,
):
    """give(patch, d) -> what the pixels of a patch get of this delta."""

    def answer(delta, x, k, stride):
        dx, s = start(x), step(k, stride)
        for i, j in itertools.product(range(delta.shape[0]), range(delta.shape[1])):
            r, q = s * i, s * j
            given = give(x[r : r + k, q : q + k], delta[i, j])
            dx[r : r + k, q : q + k] = put(dx[r : r + k, q : q + k], given)
        return dx

    return answer


def to(place):
    """All to one place of the flattened patch."""

    def give(patch, d):
        given = torch.zeros_like(patch)
        given.view(-1)[place(patch.flatten())] = d
        return given

    return give


def first_of(values):
    return int(values.argmax())


def last_of(values):
    return int((values == values.max()).nonzero()[-1])


def down_first(patch, d):
    """The first in the order of columns."""
    given = torch.zeros_like(patch).t().contiguous()
    given.view(-1)[patch.t().flatten().argmax()] = d
    return given.t()


def max_from_zero(values):
    best, place = 0.0, 0
    for n, v in enumerate(values.tolist()):
        if v > best:
            best, place = v, n
    return place


def later_equal(values):
    best, place = values[0], 0
    for n, v in enumerate(values):
        if v >= best:
            best, place = v, n
    return place


def win_overwrites(delta, x, k, stride):
    """A pixel that wins twice gets only the last delta."""
    dx = torch.zeros_like(x)
    for i, j in itertools.product(range(delta.shape[0]), range(delta.shape[1])):
        patch = x[stride * i : stride * i + k, stride * j : stride * j + k]
        u, v = divmod(patch.argmax().item(), k)
        dx[stride * i + u, stride * j + v] = delta[i, j]
    return dx


def width_of_image(delta, x, k, stride):
    dx = torch.zeros_like(x)
    for i, j in itertools.product(range(delta.shape[0]), range(delta.shape[1])):
        patch = x[stride * i : stride * i + k, stride * j : stride * j + k]
        u, v = divmod(patch.argmax().item(), x.shape[1])
        dx[stride * i + u, stride * j + v] += delta[i, j]
    return dx


def place_and_row_swapped(delta, x, k, stride):
    dx = torch.zeros_like(x)
    for i, j in itertools.product(range(delta.shape[0]), range(delta.shape[1])):
        patch = x[stride * i : stride * i + k, stride * j : stride * j + k]
        v, u = divmod(patch.argmax().item(), k)
        dx[stride * i + u, stride * j + v] += delta[i, j]
    return dx


def forgets_where_the_window_lies(delta, x, k, stride):
    dx = torch.zeros_like(x)
    for i, j in itertools.product(range(delta.shape[0]), range(delta.shape[1])):
        patch = x[stride * i : stride * i + k, stride * j : stride * j + k]
        u, v = divmod(patch.argmax().item(), k)
        dx[i + u, j + v] += delta[i, j]
    return dx


def square_of_deltas(delta, x, k, stride):
    side = min(delta.shape)
    return pool_by(to(first_of))(delta[:side, :side], x, k, stride)


def pool_by_autograd(delta, x, k, stride):
    """By loops, says the statement."""
    leaf = x.detach().clone()[None, None].requires_grad_()
    z = F.max_pool2d(leaf, k, stride)
    return torch.autograd.grad(z, leaf, delta[None, None])[0][0, 0]


def by_unpooling(delta, x, k, stride):
    """Of two deltas for one pixel one is lost; and ready-made."""
    _, places = F.max_pool2d(x[None, None], k, stride, return_indices=True)
    return F.max_unpool2d(delta[None, None], places, k, stride, output_size=x.shape)[0, 0]


def returns_in_a_branch(delta, x, k, stride):
    if stride >= k:
        return pool_by(to(first_of))(delta, x, k, stride)


def pool_by_numbers(delta, x, k, stride):
    X, H, W = x.tolist(), *x.shape
    dx = [[0.0] * W for _ in range(H)]
    for i, row in enumerate(delta.tolist()):
        for j, d in enumerate(row):
            r, q = stride * i, stride * j
            for u, v in itertools.product(range(k), range(k)):
                if X[stride * i + u][stride * j + v] > X[r][q]:
                    r, q = stride * i + u, stride * j + v
            dx[r][q] += d
    return dx


def pool_in_numpy(delta, x, k, stride):
    delta, x = delta.numpy(), x.numpy()
    dx = np.zeros_like(x)
    for i, j in np.ndindex(delta.shape):
        patch = x[stride * i : stride * i + k, stride * j : stride * j + k]
        u, v = np.unravel_index(np.argmax(patch), patch.shape)
        dx[stride * i + u, stride * j + v] += delta[i, j]
    return dx


def pool_in_one_row(delta, x, k, stride):
    W = x.shape[1]
    dx = torch.zeros(x.numel(), dtype=x.dtype)
    for i in range(delta.shape[0]):
        for j in range(delta.shape[1]):
            corner = stride * i * W + stride * j
            places = [corner + u * W + v for u in range(k) for v in range(k)]
            winner = max(places, key=lambda place: x.view(-1)[place].item())
            dx[winner] += delta[i, j]
    return dx.view(x.shape)


def pool_through_a_view(delta, x, k, stride):
    dx = torch.zeros(x.shape)
    for i, j in torch.cartesian_prod(*(torch.arange(n) for n in delta.shape)):
        window = slice(stride * i, stride * i + k), slice(stride * j, stride * j + k)
        place = x[window].reshape(-1).max(0).indices
        dx[window][place // k, place % k] += delta[i, j].float()
    return dx


def pool_by_equals(delta, x, k, stride):
    def give(patch, d):
        hit = (patch == patch.max()).flatten()
        return (hit & (hit.cumsum(0) == 1)).view(patch.shape) * d

    return pool_by(give)(delta, x, k, stride)


class Winner:
    def __call__(self, delta, x, k, stride):
        dx = x.new_zeros(x.shape)
        for (i, j), d in np.ndenumerate(delta.numpy()):
            patch = x[stride * i :, stride * j :][:k, :k].ravel()
            u, v = divmod(patch.tolist().index(patch.max().item()), k)
            dx[stride * i + u, stride * j + v] += d
        return dx


def back1d(
    delta,
    x,
    w,
    stride,
    padding,
    *,
    add_w=lambda old, d, x: old + d.T @ x,
    add_x=lambda old, d, w: old + d @ w,
    cut=lambda dx, padding, n: dx[:, :, padding : padding + n],
    bias=lambda delta: delta.sum((0, 2)),
    pad=lambda x, padding: F.pad(x, (padding, padding)),
    place=lambda i, u, stride, k: (stride * i + u, u),
):
    """The right answer, with parts to be changed."""
    n, padded = x.shape[2], pad(x, padding)
    dx, dw = torch.zeros_like(padded), torch.zeros_like(w)
    for i, u in itertools.product(range(delta.shape[2]), range(w.shape[2])):
        r, t = place(i, u, stride, w.shape[2])
        dw[:, :, t] = add_w(dw[:, :, t], delta[:, :, i], padded[:, :, r])
        dx[:, :, r] = add_x(dx[:, :, r], delta[:, :, i], w[:, :, t])
    return cut(dx, padding, n), dw, bias(delta)


def back_with(**parts):
    return functools.partial(back1d, **parts)


def back_of(change):
    """The right answer for changed arguments."""
    return lambda *arguments: back1d(*change(*arguments))


def back_after(change):
    return lambda *arguments: change(*back1d(*arguments))


def back_by_autograd(delta, x, w, stride, padding):
    """Without autograd, says the statement."""
    x, w = x.clone().requires_grad_(), w.clone().requires_grad_()
    b = torch.zeros(len(w), dtype=w.dtype, requires_grad=True)
    z = F.conv1d(x, w, b, stride, padding)
    return torch.autograd.grad(z, (x, w, b), delta)


def back_by_backward(delta, x, w, stride, padding):
    x, w = x.clone().requires_grad_(), w.clone().requires_grad_()
    F.conv1d(x, w, None, stride, padding).backward(delta)
    return x.grad, w.grad, delta.sum((0, 2))


def no_return_with_padding(delta, x, w, stride, padding):
    if padding == 0:
        return back1d(delta, x, w, stride, padding)


def transposed_without_rest(delta, x, w, stride, padding):
    """Pixels at the end that no window reads are missing."""
    _, dw, db = back1d(delta, x, w, stride, padding)
    return F.conv_transpose1d(delta, w, None, stride, padding), dw, db


def by_conv_transpose(delta, x, w, stride, padding):
    n, k = x.shape[2], w.shape[2]
    rest = (n + 2 * padding - k) % stride
    dx = F.conv_transpose1d(delta, w, None, stride, padding, output_padding=rest)
    columns = F.pad(x, (padding, padding)).unfold(2, k, stride)
    return dx, torch.einsum("boi,bciu->ocu", delta, columns), delta.sum(2).sum(0)


def back_by_numbers(delta, x, w, stride, padding):
    (B, C, n), (K, _, k) = x.shape, w.shape
    dx, dw = torch.zeros(B, C, n), torch.zeros(K, C, k)
    every = itertools.product(*map(range, (B, K, C, delta.shape[2], k)))
    for b, o, c, i, u in every:
        r = stride * i + u - padding
        if 0 <= r < n:
            dw[o, c, u] += delta[b, o, i] * x[b, c, r]
            dx[b, c, r] += delta[b, o, i] * w[o, c, u]
    return dx, dw, delta.sum(dim=(0, 2))


def back_in_numpy(delta, x, w, stride, padding):
    delta, w, n = delta.numpy(), w.numpy(), x.shape[2]
    x = np.pad(x.numpy(), ((0, 0), (0, 0), (padding, padding)))
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for i in range(delta.shape[2]):
        window = slice(stride * i, stride * i + w.shape[2])
        dw += np.einsum("bo,bcu->ocu", delta[:, :, i], x[:, :, window])
        dx[:, :, window] += np.einsum("bo,ocu->bcu", delta[:, :, i], w)
    return dx[:, :, padding : padding + n], dw, delta.sum((0, 2))


def back_by_taps(delta, x, w, stride, padding):
    padded = x.new_zeros(*x.shape[:2], x.shape[2] + 2 * padding)
    padded[:, :, padding : padding + x.shape[2]] = x
    dx, taps = torch.zeros_like(padded), []
    for u in range(w.shape[2]):
        seen = slice(u, u + stride * (delta.shape[2] - 1) + 1, stride)
        taps.append(torch.einsum("boi,bci->oc", delta, padded[:, :, seen]))
        dx[:, :, seen] += torch.einsum("boi,oc->bci", delta, w[:, :, u])
    dx = dx.narrow(2, padding, x.shape[2])
    return dx, torch.stack(taps, 2), torch.einsum("boi->o", delta)


def back_image_by_image(delta, x, w, stride, padding):
    parts = [
        back1d(d[None], image[None], w, stride, padding)
        for d, image in zip(delta, x, strict=True)
    ]
    dx, dw, db = zip(*parts, strict=True)
    return torch.cat(dx), sum(dw), sum(db)


def back_by_a_matrix(delta, x, w, stride, padding):
    """The convolution as a matrix (C_out n_out, C_in n_padded)."""
    (K, C, k), m = w.shape, delta.shape[2]
    n = x.shape[2] + 2 * padding
    matrix = w.new_zeros(K, m, C, n)
    for i in range(m):
        matrix[:, i, :, stride * i : stride * i + k] = w
    dx = torch.einsum("boi,oicn->bcn", delta, matrix)
    outer = torch.einsum("boi,bcn->oicn", delta, F.pad(x, (padding, padding)))
    dw = torch.zeros_like(w)
    for i in range(m):
        dw += outer[:, i, :, stride * i : stride * i + k]
    return dx[:, :, padding : n - padding], dw, delta.sum((0, 2))


class Back:
    def __call__(self, delta, x, w, stride, padding):
        return [part.clone() for part in back1d(delta, x, w, stride, padding)]


WRONG = {
    "columns": [
        columns_after(lambda c: c.T),
        columns_after(lambda c: c.T.reshape(c.shape)),
        columns_after(lambda c: c.flatten()),
        columns_after(lambda c: c[None]),
        columns_after(lambda c: c.flip(0)),
        columns_after(lambda c: c.flip(1)),
        columns_after(lambda c: c[:, :1]),
        columns_after(lambda c: c[:, :-1]),
        columns_after(lambda c: c.relu()),
        columns_after(lambda c: c.long()),
        columns_of(lambda patch: patch.T),
        columns_of(lambda patch: patch.flip(1)),
        columns_of(lambda patch: patch.sort(1).values),
        columns_of(lambda patch: patch - patch.mean()),
        lambda x, k, stride: columns_after(lambda c: c)(x, k, 1),
        lambda x, k, stride: columns_after(lambda c: c)(x, k, k),
        lambda x, k, stride: columns_after(lambda c: c)(x, 3, stride),
        lambda x, k, stride: columns_after(lambda c: c)(x, 2, stride),
        lambda x, k, stride: columns_after(lambda c: c)(F.pad(x, (1,) * 4), k, stride),
        lambda x, k, stride: torch.stack([p.flatten() for p in patches(x, k, stride)]),
        lambda x, k, stride: torch.stack(patches(x, k, stride), 1).flatten(1),
        lambda x, k, stride: torch.cat(patches(x, k, stride), 1),
        outputs_down_first,
        height_for_both,
        last_ones_left_out,
        places_not_strided,
        stride_across_only,
        returns_after_the_first_row,
        ready_made_columns,
        by_a_module,
    ],
    "pool_back": [
        pool_by(to(last_of)),
        pool_by(to(later_equal)),
        pool_by(to(max_from_zero)),
        pool_by(to(lambda values: int(values.argmin()))),
        pool_by(to(lambda values: int(values.abs().argmax()))),
        pool_by(to(lambda values: 0)),
        pool_by(to(lambda values: len(values) // 2)),
        pool_by(lambda patch, d: (patch == patch.max()) * d),
        pool_by(
            lambda patch, d: (patch == patch.max()) * d / (patch == patch.max()).sum()
        ),
        pool_by(lambda patch, d: d / patch.numel() + 0 * patch),
        pool_by(lambda patch, d: d + 0 * patch),
        pool_by(lambda patch, d: to(first_of)(patch, 1.0)),
        pool_by(lambda patch, d: to(first_of)(patch, d * patch.max())),
        pool_by(lambda patch, d: to(first_of)(patch, abs(d))),
        pool_by(down_first),
        pool_by(to(first_of), start=torch.ones_like),
        pool_by(to(first_of), start=torch.clone),
        pool_by(to(first_of), step=lambda k, stride: k),
        pool_by(to(first_of), step=lambda k, stride: 1),
        pool_by(to(first_of), put=lambda old, new: new),
        pool_by(to(first_of), put=torch.maximum),
        lambda delta, x, k, stride: pool_by(to(first_of))(delta, x, 2, stride),
        lambda delta, x, k, stride: pool_by(to(first_of))(delta, x, k, 2),
        lambda delta, x, k, stride: pool_by(to(first_of))(delta, x, k, stride).T,
        lambda delta, x, k, stride: pool_by(to(first_of))(delta, x, k, stride)[None],
        lambda delta, x, k, stride: delta,
        win_overwrites,
        width_of_image,
        place_and_row_swapped,
        forgets_where_the_window_lies,
        square_of_deltas,
        returns_in_a_branch,
        by_unpooling,
        pool_by_autograd,
    ],
    "conv1d_back": [
        back_with(cut=lambda dx, padding, n: dx),
        back_with(cut=lambda dx, padding, n: dx[:, :, padding:-padding]),  # padding 0
        back_with(cut=lambda dx, padding, n: dx[:, :, :n]),
        back_with(cut=lambda dx, padding, n: dx[:, :, 1 : 1 + n]),
        back_with(pad=lambda x, padding: F.pad(x, (2 * padding, 0))),
        back_with(pad=lambda x, padding: F.pad(x, (padding, padding), value=1.0)),
        back_with(pad=lambda x, padding: F.pad(x, (padding,) * 2, mode="replicate")),
        back_with(add_w=lambda old, d, x: d.T @ x),
        back_with(add_x=lambda old, d, w: d @ w),
        back_with(add_w=lambda old, d, x: old + d.T @ x / len(d)),
        back_with(add_w=lambda old, d, x: old + d[:1].T @ x[:1]),
        back_with(add_w=lambda old, d, x: old - d.T @ x),
        back_with(add_w=lambda old, d, x: old + x.T @ d),
        back_with(add_x=lambda old, d, w: old + d @ w / d.shape[1]),
        back_with(add_x=lambda old, d, w: old + d[:, :1] @ w[:1]),
        back_with(bias=lambda delta: delta.sum((0, 1))),
        back_with(bias=lambda delta: delta.sum(0)),
        back_with(bias=lambda delta: delta.sum(2)),
        back_with(bias=lambda delta: delta.sum()),
        back_with(bias=lambda delta: delta.mean((0, 2))),
        back_with(bias=lambda delta: delta.sum(2).mean(0)),
        back_with(bias=lambda delta: delta.sum((0, 2), keepdim=True)),
        back_with(bias=lambda delta: delta[0].sum(1)),
        back_with(place=lambda i, u, stride, k: (i + u, u)),
        back_with(place=lambda i, u, stride, k: (2 * i + u, u)),
        back_with(place=lambda i, u, stride, k: (stride * i + u, k - 1 - u)),
        back_with(place=lambda i, u, stride, k: (stride * (i + u), u)),
        back_of(lambda d, x, w, stride, padding: (d, x, w, 1, padding)),
        back_of(lambda d, x, w, stride, padding: (d, x, w, stride, 0)),
        back_of(lambda d, x, w, stride, padding: (d, x, w, stride, 1)),
        back_of(lambda d, x, w, stride, padding: (d, x, w.flip(2), stride, padding)),
        back_of(lambda d, x, w, stride, padding: (d[:1], x[:1], w, stride, padding)),
        back_of(lambda d, x, w, stride, padding: (d.flip(2), x, w, stride, padding)),
        back_after(lambda dx, dw, db: (dw, dx, db)),
        back_after(lambda dx, dw, db: (dx, dw)),
        back_after(lambda dx, dw, db: (dx, dw.flip(2), db)),
        back_after(lambda dx, dw, db: (dx, dw.mT, db)),
        back_after(lambda dx, dw, db: (dx, dw / len(dx), db / len(dx))),
        back_after(lambda dx, dw, db: (dx, dw, torch.zeros_like(db))),
        no_return_with_padding,
        transposed_without_rest,
        back_by_autograd,
        back_by_backward,
    ],
}

RIGHT = {
    "columns": [
        columns_of(lambda patch: patch),
        columns_of(torch.clone),
        columns_after(lambda c: c.contiguous().float()),
        entry_by_entry,
        by_taps,
        columns_by_numbers,
        columns_in_numpy,
        columns_side_by_side,
        Columns(),
    ],
    "pool_back": [
        pool_by(to(first_of)),
        pool_by_numbers,
        pool_in_numpy,
        pool_in_one_row,
        pool_through_a_view,
        pool_by_equals,
        Winner(),
    ],
    "conv1d_back": [
        back1d,
        back_with(cut=lambda dx, padding, n: dx[:, :, padding : dx.shape[2] - padding]),
        back_with(bias=lambda delta: delta.transpose(0, 1).flatten(1).sum(1)),
        back_after(lambda dx, dw, db: (dx.float(), dw.float(), db.float())),
        by_conv_transpose,
        back_by_numbers,
        back_in_numpy,
        back_by_taps,
        back_image_by_image,
        back_by_a_matrix,
        Back(),
    ],
}
