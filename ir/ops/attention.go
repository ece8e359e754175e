package ops

import (
	"errors"
	"fmt"
	"math"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

var _ = define(ir.Op{
	Name: "Attention", Since: 23,
	Doc: `Scaled dot-product attention: softmax(Q·Kᵀ·scale + bias)·V for each head. Read as MatMul, Softmax and what lies between,
so that each can be quantised and fused; Q alone is scaled. Grouped heads, past keys and values, softcap, masks, causal masks and windows are read;
lengths must be known for the last two.`,
	In: "Q, K, V, attn_mask?, past_key?, past_value?, nonpad_kv_seqlen?", Out: "Y, present_key?, present_value?, qk_matmul_output?",
	Attrs: []ir.AttrSpec{
		{Name: "is_causal", Kind: ir.IntAttr, Default: int64(0)},
		{Name: "kv_num_heads", Kind: ir.IntAttr},
		{Name: "left_window_size", Kind: ir.IntAttr, Default: int64(-1)},
		{Name: "q_num_heads", Kind: ir.IntAttr},
		{Name: "qk_matmul_output_mode", Kind: ir.IntAttr, Default: int64(0)},
		{Name: "right_window_size", Kind: ir.IntAttr, Default: int64(-1)},
		{Name: "scale", Kind: ir.FloatAttr},
		{Name: "softcap", Kind: ir.FloatAttr, Default: float32(0)},
		{Name: "softmax_precision", Kind: ir.IntAttr},
	},
	Import: importAttention,
})

// attention is the expansion of one Attention node; values are [batch, heads, length, size].
type attention struct {
	expansion
	q, k, v *ir.Value
}

func importAttention(r *ir.Rewriter, n *ir.Node, _ int) error {
	a := attention{expansion: expansion{r: r.Before(n), n: n}}
	if err := wantLike(n, 0, 1, 2); err != nil {
		return err
	}
	switch {
	case n.Input(6) != nil:
		return errors.New("nonpad_kv_seqlen is not supported")
	case (n.Input(4) == nil) != (n.Input(5) == nil):
		return errors.New("one of past_key and past_value is missing")
	case n.Int("softmax_precision") != 0 && tensor.FromONNXType(n.Int("softmax_precision")) == tensor.F64:
		return errors.New("softmax_precision is double, which is not supported")
	}
	rank := n.In[0].Type.Rank()
	if n.In[0].Type.Unranked || n.In[1].Type.Unranked || n.In[2].Type.Unranked {
		return errors.New("the ranks of Q, K and V are not known")
	}
	if rank != 3 && rank != 4 || n.In[1].Type.Rank() != rank || n.In[2].Type.Rank() != rank {
		return fmt.Errorf("Q is %v, K %v and V %v, expected three tensors of rank 3 or 4", n.In[0].Type, n.In[1].Type, n.In[2].Type)
	}
	var err error
	if a.q, err = a.heads(n.In[0], "q_num_heads"); err != nil {
		return err
	}
	if a.k, err = a.heads(n.In[1], "kv_num_heads"); err != nil {
		return err
	}
	if a.v, err = a.heads(n.In[2], "kv_num_heads"); err != nil {
		return err
	}
	past := ir.Fixed(0)
	if n.Input(4) != nil {
		past = n.In[4].Type.Dims[min(2, max(0, n.In[4].Type.Rank()-1))]
		a.k = a.add("Concat", ir.MakeAttrs("axis", 2), n.In[4], a.k)
		a.v = a.add("Concat", ir.MakeAttrs("axis", 2), n.In[5], a.v)
	}
	if a.err != nil {
		return a.err
	}
	presentK, presentV := a.k, a.v
	if err := a.group(); err != nil {
		return err
	}
	y, qk, err := a.attend(past)
	if err != nil {
		return err
	}
	if rank == 3 {
		y = a.add("Reshape", nil, a.add("Transpose", ir.MakeAttrs("perm", []int{0, 2, 1, 3}), y), a.ints(0, 0, -1))
	}
	if a.err != nil {
		return a.err
	}
	for i, v := range []*ir.Value{y, presentK, presentV, qk} {
		o := n.Output(i)
		if o == nil {
			continue
		}
		if v.IsConst() || v.Kind == ir.Input || v.IsOutput() { // an output needs a value of its own
			if v = a.add("Identity", nil, v); a.err != nil {
				return a.err
			}
		}
		r.ReplaceUses(o, v)
	}
	r.Erase(n)
	return nil
}

// heads returns x with a dimension of heads: x itself, or of rank 3 its last dimension cut into them.
func (a *attention) heads(x *ir.Value, attr string) (*ir.Value, error) {
	count := a.n.Int(attr)
	if x.Type.Rank() == 4 {
		return x, nil
	}
	if count < 1 || x.Type.Dims[2].Known() && x.Type.Dims[2].N%count != 0 {
		return nil, fmt.Errorf("%s is %d for %v", attr, count, x.Type)
	}
	x = a.add("Reshape", nil, x, a.ints(0, 0, int64(count), -1))
	return a.add("Transpose", ir.MakeAttrs("perm", []int{0, 2, 1, 3}), x), a.err
}

// group repeats each head of K and V for the heads of Q that share it.
func (a *attention) group() error {
	qh, kh := a.q.Type.Dims[1], a.k.Type.Dims[1]
	if qh.Same(kh) {
		return nil
	}
	if !qh.Known() || !kh.Known() || kh.N < 1 || qh.N%kh.N != 0 {
		return fmt.Errorf("%v heads of Q for %v of K", qh, kh)
	}
	for _, x := range []**ir.Value{&a.k, &a.v} {
		size := (*x).Type.Dims[3]
		if !size.Known() {
			return fmt.Errorf("the size of the heads of %v is not known", (*x).Type)
		}
		v := a.add("Unsqueeze", nil, *x, a.ints(2))
		v = a.add("Expand", nil, v, a.ints(1, 1, int64(qh.N/kh.N), 1, 1))
		*x = a.add("Reshape", nil, v, a.ints(0, int64(qh.N), -1, int64(size.N)))
	}
	return a.err
}

// attend returns the result and what qk_matmul_output_mode asks for.
func (a *attention) attend(past ir.Dim) (y, qk *ir.Value, err error) {
	n := a.n
	scale := float64(n.Float("scale"))
	if !n.HasAttr("scale") {
		size := a.q.Type.Dims[3]
		if !size.Known() || size.N < 1 {
			return nil, nil, fmt.Errorf("the size of the heads of %v is not known, which the scale needs", a.q.Type)
		}
		scale = 1 / math.Sqrt(float64(size.N))
	}
	q := a.add("Mul", nil, a.q, a.number(scale))
	scores := a.add("MatMul", nil, q, a.add("Transpose", ir.MakeAttrs("perm", []int{0, 1, 3, 2}), a.k))
	stages := []*ir.Value{scores}
	if c := float64(n.Float("softcap")); c > 0 {
		scores = a.add("Mul", nil, a.add("Tanh", nil, a.add("Div", nil, scores, a.number(c))), a.number(c))
	}
	stages = append(stages, scores)
	masked, err := a.mask(scores, past)
	if err != nil {
		return nil, nil, err
	}
	stages = append(stages, masked)
	p := a.add("Softmax", ir.MakeAttrs("axis", -1), masked)
	if m := n.Input(3); m != nil {
		// A row in which nothing takes part gives zeros.
		p = a.add("Where", nil, a.add("IsNaN", nil, p), a.number(0), p)
	}
	stages = append(stages, p)
	mode := n.Int("qk_matmul_output_mode")
	if mode < 0 || mode >= len(stages) {
		return nil, nil, fmt.Errorf("qk_matmul_output_mode is %d, expected 0 to 3", mode)
	}
	return a.add("MatMul", nil, p, a.v), stages[mode], a.err
}

// mask adds what attn_mask, is_causal and the windows forbid to the scores, as −∞.
func (a *attention) mask(scores *ir.Value, past ir.Dim) (*ir.Value, error) {
	n := a.n
	never := math.Inf(-1)
	if m := n.Input(3); m != nil {
		if total := scores.Type; !m.Type.Unranked && m.Type.Rank() > 0 && !total.Unranked {
			if have, want := m.Type.Dims[m.Type.Rank()-1], total.Dims[3]; have.Known() && want.Known() && have.N != want.N && have.N != 1 {
				return nil, fmt.Errorf("attn_mask is %v for %v keys", m.Type, want)
			}
		}
		if m.Type.Elem == tensor.Bool {
			m = a.add("Where", nil, m, a.number(0), a.number(never))
		}
		scores = a.add("Add", nil, scores, m)
	}
	left, right := n.Int("left_window_size"), n.Int("right_window_size")
	if n.Int("is_causal") != 0 && (right < 0 || right > 0) {
		right = 0
	}
	if left < 0 && right < 0 || a.err != nil {
		return scores, a.err
	}
	queries, keys := scores.Type.Dims[2], scores.Type.Dims[3]
	if !queries.Known() || !keys.Known() || !past.Known() {
		return nil, fmt.Errorf("is_causal or a window of %v scores: the lengths must be known", scores.Type)
	}
	if count, err := tensor.NumElems([]int{queries.N, keys.N}); err != nil || count > 1<<26 {
		return nil, fmt.Errorf("is_causal or a window of %v scores is too large", scores.Type)
	}
	bias := make([]float64, queries.N*keys.N)
	for i := range queries.N {
		for j := range keys.N {
			if d := i + past.N - j; left >= 0 && d > left || right >= 0 && -d > right {
				bias[i*keys.N+j] = never
			}
		}
	}
	t := floatsOf(n.In[0].Type.Elem, bias, []int{queries.N, keys.N})
	return a.add("Add", nil, scores, a.r.Const(n.Out[0].Name+"_mask", t)), a.err
}
