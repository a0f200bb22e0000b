// What a layer brings.
namespace Greetings
{
    public static class Greeting
    {
        public static readonly string Text = "from the layer";
    }
}
