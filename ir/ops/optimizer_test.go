package ops

import (
	"math"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// TestUpdates follows each optimiser for three steps in f64 along the gradients
// 1, −2, 0.5 from w = 1 and compares with its formula worked out by hand.
func TestUpdates(t *testing.T) {
	grads := []float64{1, -2, 0.5}
	for _, c := range []struct {
		op    string
		attrs ir.Attrs
		slots int
		want  func() []float64
	}{
		{"thriftc.SGDUpdate", ir.MakeAttrs("momentum", float32(0.5), "weight_decay", float32(0.25)), 1, func() (out []float64) {
			w, m := 1.0, 0.0
			for _, g := range grads {
				m = 0.5*m + 0.5*g + 0.25*w
				w -= 0.125 * m
				out = append(out, w)
			}
			return out
		}},
		{"thriftc.SGDUpdate", ir.MakeAttrs("momentum", float32(0.5), "nesterov", 1), 1, func() (out []float64) {
			w, m := 1.0, 0.0
			for _, g := range grads {
				m = 0.5*m + 0.5*g
				w -= 0.125 * (0.5*g + 0.5*m)
				out = append(out, w)
			}
			return out
		}},
		{"thriftc.AdamUpdate", ir.MakeAttrs("weight_decay", float32(0.25)), 2, func() []float64 { return adamByHand(grads, false) }},
		{"thriftc.AdamUpdate", ir.MakeAttrs("weight_decay", float32(0.25), "decoupled", 1), 2, func() []float64 { return adamByHand(grads, true) }},
	} {
		r := ir.NewRewriter(ir.NewGraph("g", Table()))
		one := func(x float64) *tensor.Tensor { return tensor.Of([]float64{x, 2 * x}, 2) }
		state := []*tensor.Tensor{one(1)}
		for range c.slots {
			state = append(state, one(0))
		}
		for i, want := range c.want() {
			args := append([]*tensor.Tensor{state[0], one(grads[i])}, state[1:]...)
			args = append(args, tensor.Scalar(0.125))
			if c.slots == 2 {
				args = append(args, tensor.Scalar(float64(i+1)))
			}
			args = append(args, tensor.Scalar(0.5))
			var in []*ir.Value
			for _, a := range args {
				in = append(in, r.Const("", a))
			}
			n, err := r.Add(c.op, "", c.attrs, in)
			if err != nil {
				t.Fatal(err)
			}
			out, err := n.Eval(args)
			if err != nil {
				t.Fatal(err)
			}
			if got := out[0].Float64s()[0]; math.Abs(got-want) > 1e-12 {
				t.Errorf("%s step %d: %v, want %v", c.op, i+1, got, want)
			}
			state = out
		}
	}
}

func adamByHand(grads []float64, decoupled bool) (out []float64) {
	b1, b2 := float64(float32(0.9)), float64(float32(0.999))
	w, m, v := 1.0, 0.0, 0.0
	for i, g := range grads {
		d := 0.5 * g
		if !decoupled {
			d += 0.25 * w
		}
		m = b1*m + (1-b1)*d
		v = b2*v + (1-b2)*d*d
		t := float64(i + 1)
		next := w - 0.125*(m/(1-math.Pow(b1, t)))/(math.Sqrt(v/(1-math.Pow(b2, t)))+float64(float32(1e-8)))
		if decoupled {
			next -= 0.125 * 0.25 * w
		}
		w = next
		out = append(out, w)
	}
	return out
}

func TestNorm(t *testing.T) {
	r := ir.NewRewriter(ir.NewGraph("g", Table()))
	a, b := tensor.Of([]float32{3, 0}, 2), tensor.Of([]float64{-4}, 1, 1)
	n, err := r.Add("thriftc.Norm", "", nil, []*ir.Value{r.Const("a", a), r.Const("b", b)})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := n.Eval([]*tensor.Tensor{a, b}); err != nil || out[0].Float32s()[0] != 5 {
		t.Errorf("%v, %v", out, err)
	}
}
