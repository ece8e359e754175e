package ops

import (
	"fmt"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

var _ = define(ir.Op{
	Name:  "CenterCropPad",
	Doc:   "Cuts or pads with zeros at both ends of the axes so that they get the given sizes; of an odd difference the larger half is at the end.",
	Since: 18,
	In:    "input_data, shape", Out: "output_data",
	Attrs: []ir.AttrSpec{{Name: "axes", Kind: ir.IntsAttr, Doc: "the axes that shape speaks of; absent: all"}},
	Grad:  gradMoved,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := needInts(n, 1); err != nil {
			return nil, err
		}
		in := n.In[0].Type
		if in.Unranked {
			return types(ir.UnrankedType(in.Elem))
		}
		axes, err := resizeAxes(n, in.Rank())
		if err != nil {
			return nil, err
		}
		dims := slices.Clone(in.Dims)
		sizes, ok := knownDims(n, 1)
		if ok && len(sizes) != len(axes) {
			return nil, fmt.Errorf("%d sizes for %d axes", len(sizes), len(axes))
		}
		for i, a := range axes {
			if dims[a] = ir.Unknown; ok {
				dims[a] = sizes[i]
			}
		}
		return types(ir.TensorType(in.Elem, dims...))
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		x, sizes := in[0], intsOf(in[1])
		axes, err := resizeAxes(n, x.Rank())
		if err != nil {
			return nil, err
		}
		if len(sizes) != len(axes) {
			return nil, fmt.Errorf("%d sizes for %d axes", len(sizes), len(axes))
		}
		shape := slices.Clone(x.Shape())
		for i, a := range axes {
			shape[a] = sizes[i]
		}
		if err := fits(x.Elem(), shape); err != nil {
			return nil, err
		}
		from := make([][]int, len(shape))
		for d, size := range shape {
			have := x.Shape()[d]
			first := (have - size) / 2 // toward zero, for padding too
			from[d] = make([]int, size)
			for i := range from[d] {
				if from[d][i] = first + i; from[d][i] < 0 || from[d][i] >= have {
					from[d][i] = -1
				}
			}
		}
		return one(mapAxes(x, from, nil))
	},
})

var _ = define(ir.Op{
	Name:  "Col2Im",
	Doc:   "Adds columns of blocks up to images: [N, C·∏block_shape, L] becomes [N, C, image_shape…]; overlapping elements are added in the order of the columns' rows.",
	Since: 18,
	In:    "input, image_shape, block_shape", Out: "output",
	Attrs: []ir.AttrSpec{
		{Name: "dilations", Kind: ir.IntsAttr, Doc: "per axis; absent: 1"},
		{Name: "pads", Kind: ir.IntsAttr, Doc: "what was added before and after each axis; absent: 0"},
		{Name: "strides", Kind: ir.IntsAttr, Doc: "per axis; absent: 1"},
	},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := needInts(n, 1, 2); err != nil {
			return nil, err
		}
		if err := wantRank(n, 0, 3); err != nil {
			return nil, err
		}
		in := n.In[0].Type
		image, ok := knownDims(n, 1)
		block, ok2 := knownDims(n, 2)
		if !ok || !ok2 {
			return types(ir.UnrankedType(in.Elem))
		}
		if len(image) != len(block) {
			return nil, fmt.Errorf("image_shape has %d elements, block_shape %d", len(image), len(block))
		}
		batch, channels := ir.Unknown, ir.Unknown
		if !in.Unranked {
			q, ok := volumeOf(in.Dims[1:2]).over(volumeOf(block))
			if !ok {
				return nil, fmt.Errorf("the channels of %v are no multiple of the block", in)
			}
			batch, channels = in.Dims[0], q.dim()
		}
		return types(ir.TensorType(in.Elem, append([]ir.Dim{batch, channels}, image...)...))
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		image, block := intsOf(in[1]), intsOf(in[2])
		switch e := in[0].Elem(); {
		case e == tensor.F64:
			return one(col2im[float64](n, in[0], image, block))
		case e.IsFloat():
			return one(col2im[float32](n, in[0], image, block))
		case e.IsInt():
			return one(col2im[int64](n, in[0], image, block))
		}
		return nil, fmt.Errorf("%v cannot be added", ir.TypeOf(in[0]))
	},
	Cost: func(n *ir.Node) ir.Cost { return ir.Cost{Adds: elemCount(n.In[0].Type)} },
})

func col2im[T number](n *ir.Node, t *tensor.Tensor, image, block []int) (*tensor.Tensor, error) {
	k := len(image)
	list := func(name string, size, otherwise int) []int {
		out := slices.Repeat([]int{otherwise}, size)
		for i, x := range n.Ints(name)[:min(size, len(n.Ints(name)))] {
			out[i] = int(x)
		}
		return out
	}
	dilations, strides, pads := list("dilations", k, 1), list("strides", k, 1), list("pads", 2*k, 0)
	blockSize, err := tensor.NumElems(block)
	s := t.Shape()
	if err != nil || len(s) != 3 || len(block) != k || blockSize < 1 || s[1]%blockSize != 0 {
		return nil, fmt.Errorf("%v, image %v and block %v do not fit", ir.TypeOf(t), image, block)
	}
	const limit = 1 << 31
	grid := make([]int, k) // the positions of the block
	for d := range k {
		if min(dilations[d], strides[d]) < 1 || max(dilations[d], strides[d], block[d], image[d], pads[d], pads[k+d]) > limit || min(pads[d], pads[k+d]) < 0 {
			return nil, fmt.Errorf("dilations %v, strides %v and pads %v of image %v are not possible", dilations, strides, pads, image)
		}
		grid[d] = max(0, image[d]+pads[d]+pads[k+d]-dilations[d]*(block[d]-1)-1+strides[d]) / strides[d]
	}
	if positions, err := tensor.NumElems(grid); err != nil || positions != s[2] {
		return nil, fmt.Errorf("%v has %d columns, block %v takes %v positions in image %v", ir.TypeOf(t), s[2], block, grid, image)
	}
	channels := s[1] / blockSize
	shape := append([]int{s[0], channels}, image...)
	y, err := alloc[T](shape...)
	if err != nil {
		return nil, err
	}
	x, step := numbers[T](t), stridesOf(image)
	inBlock, inGrid := make([]int, k), make([]int, k)
	for i, v := range x {
		to := i / s[2] / blockSize * sizeOf(image)
		for d := range k {
			p := inGrid[d]*strides[d] + inBlock[d]*dilations[d] - pads[d]
			if p < 0 || p >= image[d] {
				to = -1
				break
			}
			to += p * step[d]
		}
		if to >= 0 {
			y[to] += v
		}
		if advance(inGrid, grid); (i+1)%s[2] == 0 {
			advance(inBlock, block)
		}
	}
	return fromNumbers(t.Elem(), y, shape...), nil
}
