package f32

import "math"

// Sqrt returns the correctly rounded square root. (Rounding the float64 root
// to float32 is exact rounding, because 53 ≥ 2·24 + 2.)
func Sqrt(x float32) float32 { return float32(math.Sqrt(float64(x))) }

// Exp returns eˣ.
func Exp(x float32) float32 { return float32(Exp64(float64(x))) }

// Expm1 returns eˣ − 1.
func Expm1(x float32) float32 { return float32(Expm1_64(float64(x))) }

// Log returns the natural logarithm; NaN below 0.
func Log(x float32) float32 { return float32(Log64(float64(x))) }

// Log1p returns ln(1 + x).
func Log1p(x float32) float32 { return float32(Log1p64(float64(x))) }

// Pow returns xʸ with the special cases of IEEE 754's pow.
func Pow(x, y float32) float32 { return float32(Pow64(float64(x), float64(y))) }

// Tanh returns the hyperbolic tangent.
func Tanh(x float32) float32 { return float32(Tanh64(float64(x))) }

// Sigmoid returns 1/(1 + e⁻ˣ).
func Sigmoid(x float32) float32 { return float32(Sigmoid64(float64(x))) }

// Softplus returns ln(1 + eˣ).
func Softplus(x float32) float32 { return float32(Softplus64(float64(x))) }

// Erf returns the error function.
func Erf(x float32) float32 { return float32(Erf64(float64(x))) }

// Sin returns the sine of x radians.
func Sin(x float32) float32 { return float32(Sin64(float64(x))) }

// Cos returns the cosine of x radians.
func Cos(x float32) float32 { return float32(Cos64(float64(x))) }

// Tan returns the tangent of x radians.
func Tan(x float32) float32 { return float32(Tan64(float64(x))) }

// Asin returns the arc sine in radians; NaN outside −1…1.
func Asin(x float32) float32 { return float32(Asin64(float64(x))) }

// Acos returns the arc cosine in radians; NaN outside −1…1.
func Acos(x float32) float32 { return float32(Acos64(float64(x))) }

// Atan returns the arc tangent in radians.
func Atan(x float32) float32 { return float32(Atan64(float64(x))) }

// Sinh returns the hyperbolic sine.
func Sinh(x float32) float32 { return float32(Sinh64(float64(x))) }

// Cosh returns the hyperbolic cosine.
func Cosh(x float32) float32 { return float32(Cosh64(float64(x))) }

// Asinh returns the inverse hyperbolic sine.
func Asinh(x float32) float32 { return float32(Asinh64(float64(x))) }

// Acosh returns the inverse hyperbolic cosine; NaN below 1.
func Acosh(x float32) float32 { return float32(Acosh64(float64(x))) }

// Atanh returns the inverse hyperbolic tangent; NaN outside −1…1.
func Atanh(x float32) float32 { return float32(Atanh64(float64(x))) }
