package onnxio

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/thriftc/thriftc/internal/onnxpb"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// typeOf converts a declared type. A missing declaration is the zero Type but
// unranked; types other than dense tensors and sequences of them are an errType.
func typeOf(p *onnxpb.TypeProto) (ir.Type, error) {
	unknown := ir.Type{Unranked: true}
	if p == nil || p.Value == nil {
		return unknown, nil
	}
	switch p.Value.(type) {
	case *onnxpb.TypeProto_TensorType:
	case *onnxpb.TypeProto_SequenceType:
		member := p.GetSequenceType().GetElemType()
		if member.GetTensorType() == nil {
			return unknown, errType{"sequence of other than tensors"}
		}
		t, err := typeOf(member)
		if err != nil || t.Elem == tensor.Invalid {
			return unknown, err
		}
		return ir.TensorType(tensor.Sequence(t.Elem), ir.Unknown), nil
	case *onnxpb.TypeProto_MapType:
		return unknown, errType{"map"}
	case *onnxpb.TypeProto_OptionalType:
		return unknown, errType{"optional"}
	case *onnxpb.TypeProto_SparseTensorType:
		return unknown, errType{"sparse tensor"}
	default:
		return unknown, errType{"opaque"}
	}
	t := p.GetTensorType()
	if t.GetElemType() == int32(onnxpb.TensorProto_UNDEFINED) {
		return unknown, nil
	}
	e, err := elemOf(t.GetElemType())
	if err != nil {
		return unknown, err
	}
	if t.Shape == nil {
		return ir.UnrankedType(e), nil
	}
	typ := ir.TensorType(e)
	known := 1
	for _, d := range t.Shape.Dim {
		dim := ir.Unknown
		switch v := d.Value.(type) {
		case *onnxpb.TensorShapeProto_Dimension_DimParam:
			if v.DimParam != "" {
				dim = ir.Symbol(v.DimParam)
			}
		case *onnxpb.TensorShapeProto_Dimension_DimValue:
			// Some exporters write −1 for a dimension they do not know.
			if v.DimValue < -1 {
				return unknown, fmt.Errorf("dimension %d is negative", v.DimValue)
			}
			if v.DimValue >= 0 {
				dim = ir.Fixed(int(v.DimValue))
			}
		}
		typ.Dims = append(typ.Dims, dim)
		if dim.Known() {
			if known, err = tensor.NumElems([]int{known, dim.N}); err != nil {
				return unknown, err
			}
		}
	}
	return typ, nil
}

func typeProto(t ir.Type) (*onnxpb.TypeProto, error) {
	if t.Elem.IsSequence() {
		member, err := typeProto(ir.UnrankedType(t.Elem.Member()))
		if err != nil {
			return nil, err
		}
		return &onnxpb.TypeProto{Value: &onnxpb.TypeProto_SequenceType{SequenceType: &onnxpb.TypeProto_Sequence{ElemType: member}}}, nil
	}
	d := t.Elem.ONNXType()
	if d == 0 {
		return nil, fmt.Errorf("ONNX has no element type %v", t.Elem)
	}
	tt := &onnxpb.TypeProto_Tensor{ElemType: proto.Int32(int32(d))}
	if !t.Unranked {
		tt.Shape = &onnxpb.TensorShapeProto{}
		for _, d := range t.Dims {
			dim := &onnxpb.TensorShapeProto_Dimension{}
			switch {
			case d.Known():
				dim.Value = &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: int64(d.N)}
			case d.Sym != "":
				dim.Value = &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: d.Sym}
			}
			tt.Shape.Dim = append(tt.Shape.Dim, dim)
		}
	}
	return &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{TensorType: tt}}, nil
}

// declare joins what a file declares about a computed value with what was
// inferred. What the operators compute does not depend on declarations, and
// files often carry stale ones (a batch of 8 where the model now has N), so
// inference wins where the two contradict each other in a dimension; another
// element type or rank means that the model was not meant as it is read.
func declare(v *ir.Value, declared ir.Type) (stale bool, err error) {
	have := v.Type
	switch {
	case declared.Elem == tensor.Invalid:
		return false, nil
	case have.Elem == tensor.Invalid:
		v.Type = declared
		return false, nil
	case have.Elem != declared.Elem:
		return false, fmt.Errorf("declared as %v, but it is %v", declared, have)
	case declared.Unranked:
		return false, nil
	case have.Unranked:
		v.Type.Unranked, v.Type.Dims = false, declared.Dims
		return false, nil
	case len(have.Dims) != len(declared.Dims):
		return false, fmt.Errorf("declared as %v, but it is %v", declared, have)
	case !have.Compatible(declared):
		return true, nil
	}
	dims := slices.Clone(have.Dims)
	for i, d := range dims {
		if !d.Known() && (declared.Dims[i].Known() || d.Sym == "") {
			dims[i] = declared.Dims[i]
		}
	}
	v.Type.Dims = dims
	return false, nil
}

// attrOf converts the attributes that need nothing but themselves.
func attrOf(p *onnxpb.AttributeProto) (any, error) {
	switch kind := p.GetType(); kind {
	case onnxpb.AttributeProto_UNDEFINED:
		return nil, errors.New("has no type")
	case onnxpb.AttributeProto_FLOAT:
		return p.GetF(), nil
	case onnxpb.AttributeProto_INT:
		return p.GetI(), nil
	case onnxpb.AttributeProto_STRING:
		return string(p.GetS()), nil
	case onnxpb.AttributeProto_FLOATS:
		return append([]float32{}, p.Floats...), nil
	case onnxpb.AttributeProto_INTS:
		return append([]int64{}, p.Ints...), nil
	case onnxpb.AttributeProto_STRINGS:
		s := make([]string, len(p.Strings))
		for i, b := range p.Strings {
			s[i] = string(b)
		}
		return s, nil
	default:
		return nil, errType{kind.String()}
	}
}

// checkFields refuses attributes whose value is in another field than their
// type says, which some early exporters wrote: read naively they are zero.
func checkFields(p *onnxpb.AttributeProto) error {
	fields := []struct {
		kind onnxpb.AttributeProto_AttributeType
		set  bool
	}{
		{onnxpb.AttributeProto_FLOAT, p.F != nil},
		{onnxpb.AttributeProto_INT, p.I != nil},
		{onnxpb.AttributeProto_STRING, p.S != nil},
		{onnxpb.AttributeProto_TENSOR, p.T != nil},
		{onnxpb.AttributeProto_GRAPH, p.G != nil},
		{onnxpb.AttributeProto_FLOATS, len(p.Floats) > 0},
		{onnxpb.AttributeProto_INTS, len(p.Ints) > 0},
		{onnxpb.AttributeProto_STRINGS, len(p.Strings) > 0},
	}
	for _, f := range fields {
		if f.set && f.kind != p.GetType() {
			return fmt.Errorf("type %v, but the value is of type %v", p.GetType(), f.kind)
		}
	}
	return nil
}
