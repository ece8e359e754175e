package thriftc

import (
	"math"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// outputTolerance is what a quantised output may differ by from another
// implementation's: its integers may be off by one where a float sum lies
// next to a rounding boundary. Before a softmax the step counts there, because
// the softmax can turn one step of its input into many of its own.
type outputTolerance struct {
	quantised bool
	step      float64 // one step of the output's own quantiser; 0 if it has none
	logitStep float64 // one step of the quantiser before the softmax; 0 if there is no softmax
	tol       Tolerance
}

// toleranceOf walks from an output back to the quantisers that decide it.
func toleranceOf(v *ir.Value, tol Tolerance) outputTolerance {
	o := outputTolerance{tol: tol}
	softmax := false
	for v != nil && v.Def != nil {
		switch n := v.Def; n.Op.Name {
		case "thriftc.Quant", "DequantizeLinear":
			scale := n.ConstIn(1)
			if scale == nil {
				return o
			}
			s := 0.0
			for _, x := range scale.Float64s() {
				s = math.Max(s, math.Abs(x))
			}
			o.quantised = true
			if !softmax && o.step == 0 {
				o.step = s
			} else if softmax && o.logitStep == 0 {
				o.logitStep = s
				return o
			}
		case "Softmax":
			softmax = true
		case "Transpose", "Cast":
		default:
			if n.Op.Elements != ir.Kept {
				return o
			}
		}
		v = v.Def.Input(0)
	}
	return o
}

// outside counts the elements of got that lie outside the tolerance; plain is
// their number without the allowance for steps. A changed top-1 counts as one.
func (o outputTolerance) outside(got, want *tensor.Tensor, plain int) int {
	x, y := got.Float64s(), want.Float64s()
	n := 0
	for i := range x {
		allowed := o.tol.Abs + o.tol.Rel*math.Abs(y[i]) + o.step*(1+1e-6)
		if o.logitStep > 0 {
			// Every logit may move by one step, so a probability by a factor of up to e^(2·step).
			allowed += math.Abs(y[i]) * math.Expm1(2*o.logitStep)
		}
		if !(math.Abs(x[i]-y[i]) <= allowed) {
			n++
		}
	}
	if n == 0 && plain > 0 && got.Rank() > 1 && argmax(x) != argmax(y) {
		return 1
	}
	return n
}
