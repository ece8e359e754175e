package ir

// Role says what an input is to its operator.
type Role uint8

const (
	// Data is what the operator computes with or moves: activations, and constants in their place.
	Data Role = iota
	// Weight is what a layer multiplies its data with, the slope of an activation, a recurrence.
	Weight
	// Bias is added to results, one number for each channel, after whatever multiplies them.
	Bias
	// Gain multiplies what has been normalised.
	Gain
	// Statistic is a mean or a variance that was measured.
	Statistic
	// Shape holds the sizes of the output's dimensions, the batch's first.
	Shape
	// Setting says how to compute: axes, indices, limits, rates, the scale, zero point and width of a grid.
	Setting
)

// Layer is what is known of an operator that multiplies data with weights and adds up the products: matrix products,
// convolutions, recurrences.
type Layer struct {
	// Channels returns the dimensions of the weights at input w that number the output and the input channels.
	// Dimension 1 counts those of one group where the operator has the attribute group. nil: there are no
	// such dimensions, or the weights are not numbers that a pass may scale.
	Channels func(n *Node, w int) (out, in int)
	// Commutes: the weights may also stand where Roles has the data, and the data where it has them.
	Commutes bool
}

// Role returns what input i is to the operator.
func (o *Op) Role(i int) Role {
	if i < len(o.Roles) {
		return o.Roles[i]
	}
	return Data
}

// Input returns the first input of a role, −1 if there is none.
func (o *Op) Input(r Role) int {
	for i := range o.in {
		if o.Role(i) == r {
			return i
		}
	}
	return -1
}
